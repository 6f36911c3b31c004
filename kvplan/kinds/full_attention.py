"""Full attention: a key and a value for every KV head and every token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from kvplan.kinds.base import CacheKind, Slot
from kvplan.limits import Size


@dataclass(frozen=True, kw_only=True)
class AttentionHeads(CacheKind):
    """The head geometry that full, windowed and shared attention have in common.

    Shapes: key ``num_key_value_heads x head_dim``, value ``num_key_value_heads x v_head_dim``
    (``v_head_dim`` is ``head_dim`` where it is not given).
    """

    formula: ClassVar[str] = "num_key_value_heads × (head_dim + v_head_dim)"

    num_attention_heads: Size
    num_key_value_heads: Size
    head_dim: Size
    v_head_dim: Size | None = None

    def __post_init__(self) -> None:
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"{self.num_attention_heads} attention heads cannot share "
                f"{self.num_key_value_heads} KV heads evenly"
            )

    @property
    def value_dim(self) -> int:
        """Width of one head's value."""
        return self.v_head_dim or self.head_dim

    def slots(self) -> tuple[Slot, ...]:
        return (
            Slot("key", self.num_key_value_heads, self.head_dim, "replicate"),
            Slot("value", self.num_key_value_heads, self.value_dim, "replicate"),
        )

    def query_heads(self) -> int | None:
        return self.num_attention_heads

    def as_full_attention(self, kv_heads: int | None) -> CacheKind | None:
        return full_attention(self.num_attention_heads, kv_heads, self.head_dim, self.value_dim)


@dataclass(frozen=True, kw_only=True)
class FullAttention(AttentionHeads):
    """MHA, GQA and MQA (Vaswani 2017, Ainslie 2023, Shazeer 2019): every token is kept."""

    about: ClassVar[str] = "Every token leaves one key and one value for each KV head."

    kind: Literal["full_attention"] = "full_attention"

    def tag(self) -> str:
        if self.num_key_value_heads == self.num_attention_heads:
            return "MHA"
        return "MQA" if self.num_key_value_heads == 1 else "GQA"


def full_attention(heads: int, kv_heads: int | None, key_dim: int, value_dim: int) -> FullAttention:
    """Full attention with these heads; ``kv_heads`` None is multi-head attention.

    Raises ValueError where the heads cannot be grouped like that.
    """
    return FullAttention(
        num_attention_heads=heads,
        num_key_value_heads=kv_heads or heads,
        head_dim=key_dim,
        v_head_dim=None if value_dim == key_dim else value_dim,
    )
