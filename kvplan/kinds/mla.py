"""Multi-head latent attention: one compressed vector a token instead of keys and values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from kvplan.kinds.base import BoundedKind, CacheKind, Slot
from kvplan.kinds.full_attention import full_attention
from kvplan.limits import Limit, Size, Tokens


@dataclass(frozen=True, kw_only=True)
class LatentAttention(CacheKind):
    """Latent and decoupled RoPE key, shared by all heads (DeepSeek-V2, arXiv 2405.04434, 2.1).

    Shapes: latent ``kv_lora_rank``, RoPE key ``qk_rope_head_dim``, 0 where positions are not
    encoded and the latent stands alone (GLM-5.3-Flash). Keys and values are rebuilt from the
    latent, so no factor 2 applies; there is one copy for all heads, so tensor parallelism does not
    split it.
    """

    label: ClassVar[str] = "MLA"
    formula: ClassVar[str] = "kv_lora_rank + qk_rope_head_dim"
    about: ClassVar[str] = (
        "Keys and values of all heads are rebuilt from one latent vector; only it and, where "
        "positions are rotated, one rotary key are kept, whole on every tensor-parallel GPU."
    )

    num_attention_heads: Size
    kv_lora_rank: Size
    qk_rope_head_dim: Annotated[int, Limit(ge=0, le=1_000_000)]
    qk_nope_head_dim: Size
    v_head_dim: Size

    def slots(self) -> tuple[Slot, ...]:
        latent = Slot("latent", 1, self.kv_lora_rank, "whole")
        if not self.qk_rope_head_dim:
            return (latent,)
        return (latent, Slot("rope_key", 1, self.qk_rope_head_dim, "whole"))

    def query_heads(self) -> int | None:
        return self.num_attention_heads

    def as_full_attention(self, kv_heads: int | None) -> CacheKind | None:
        key_dim = self.qk_nope_head_dim + self.qk_rope_head_dim
        return full_attention(self.num_attention_heads, kv_heads, key_dim, self.v_head_dim)


@dataclass(frozen=True, kw_only=True)
class MLA(LatentAttention):
    """Latents of every token."""

    kind: Literal["mla"] = "mla"


@dataclass(frozen=True, kw_only=True)
class SlidingMLA(LatentAttention, BoundedKind):
    """Latents of the last ``sliding_window`` tokens, itself included (dots3-note)."""

    label: ClassVar[str] = "SWA"
    about: ClassVar[str] = (
        "One latent vector and one rotary key for each of the last sliding_window tokens; "
        "engines add what their pages need."
    )

    kind: Literal["sliding_mla"] = "sliding_mla"
    sliding_window: Tokens

    def fixed_entries(self) -> int:
        return self.sliding_window

    def bounded_by(self, native_context_tokens: int | None) -> CacheKind:
        if native_context_tokens is None or self.sliding_window < native_context_tokens:
            return self
        return MLA(
            num_attention_heads=self.num_attention_heads,
            kv_lora_rank=self.kv_lora_rank,
            qk_rope_head_dim=self.qk_rope_head_dim,
            qk_nope_head_dim=self.qk_nope_head_dim,
            v_head_dim=self.v_head_dim,
        )
