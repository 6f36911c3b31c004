"""Cross-attention: keys and values of the encoder's output, kept once for each sequence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from kvplan.kinds.base import BoundedKind, CacheKind
from kvplan.kinds.full_attention import AttentionHeads
from kvplan.limits import Tokens


@dataclass(frozen=True, kw_only=True)
class CrossAttention(AttentionHeads, BoundedKind):
    """Keys and values of ``encoder_tokens`` (a full encoder input), whatever the text's length."""

    label: ClassVar[str] = "cross"
    about: ClassVar[str] = (
        "Keys and values of the encoder's output; counted for one full encoder input."
    )

    per_encoder_input: ClassVar[bool] = True

    kind: Literal["cross_attention"] = "cross_attention"
    encoder_tokens: Tokens

    def entries(self, tokens: int) -> int:
        del tokens
        return self.encoder_tokens

    def fixed_entries(self) -> int:
        return self.encoder_tokens

    def as_full_attention(self, kv_heads: int | None) -> CacheKind | None:
        heads = kv_heads or self.num_attention_heads
        return replace(self, num_key_value_heads=heads)
