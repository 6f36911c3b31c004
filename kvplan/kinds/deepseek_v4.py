"""DeepSeek-V4's three caches: compressed vectors, a window of raw ones, the compressor's state."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Literal

from kvplan.kinds.base import BoundedKind, CacheKind, Slot
from kvplan.kinds.full_attention import full_attention
from kvplan.limits import Flag, Size, Tokens


@dataclass(frozen=True, kw_only=True)
class SharedVector(CacheKind):
    """One vector of ``head_dim`` that is both key and value for all heads (arXiv 2606.19348, 2.3).

    Its last ``qk_rope_head_dim`` elements are the rotary part: inside ``head_dim``, not beside it.
    There is one copy for all heads, so tensor parallelism does not split it.
    """

    formula: ClassVar[str] = "head_dim (key and value at once)"

    head_dim: Size
    qk_rope_head_dim: Size

    def __post_init__(self) -> None:
        if self.qk_rope_head_dim >= self.head_dim:
            raise ValueError("qk_rope_head_dim is a part of head_dim and must be smaller")

    def slots(self) -> tuple[Slot, ...]:
        return (
            Slot("shared_kv", 1, self.head_dim - self.qk_rope_head_dim, "whole"),
            Slot("rope_key", 1, self.qk_rope_head_dim, "whole"),
        )


@dataclass(frozen=True, kw_only=True)
class CompressedKV(SharedVector):
    """One vector for every ``compress_ratio`` tokens (CSA: 4, HCA: 128).

    A group of tokens leaves its entry when it is complete; until then it lives in the
    compressor's state, so entries are whole ones.
    """

    label: ClassVar[str] = "compressed"
    formula: ClassVar[str] = "head_dim ÷ compress_ratio (key and value at once)"
    about: ClassVar[str] = (
        "Every compress_ratio tokens are folded into one vector that serves all heads as key "
        "and as value."
    )

    kind: Literal["compressed_kv"] = "compressed_kv"
    compress_ratio: Size

    def entries(self, tokens: int) -> int:
        return tokens // self.compress_ratio

    def growth(self) -> Fraction:
        return Fraction(1, self.compress_ratio)

    def tag(self) -> str:
        # Names of arXiv 2606.19348: compressed sparse and heavily compressed attention.
        return {4: "CSA", 128: "HCA"}.get(self.compress_ratio, self.label)

    def as_full_attention(self, kv_heads: int | None) -> CacheKind | None:
        del kv_heads
        return None  # The layer's window carries the heads: every V4 layer has one.


@dataclass(frozen=True, kw_only=True)
class LatentWindow(SharedVector, BoundedKind):
    """The last ``sliding_window`` tokens' own vectors, kept on every V4 layer."""

    label: ClassVar[str] = "SWA"
    about: ClassVar[str] = "The last sliding_window tokens are also kept uncompressed."

    kind: Literal["latent_window"] = "latent_window"
    num_attention_heads: Size
    sliding_window: Tokens

    def fixed_entries(self) -> int:
        return self.sliding_window

    def query_heads(self) -> int | None:
        return self.num_attention_heads

    def as_full_attention(self, kv_heads: int | None) -> CacheKind | None:
        return full_attention(self.num_attention_heads, kv_heads, self.head_dim, self.head_dim)


@dataclass(frozen=True, kw_only=True)
class CompressorState(BoundedKind):
    """fp32 state of a layer's compressor (vLLM 0.33.0 models/deepseek_v4/compressor.py:179).

    A value and a gate of ``width`` for each token of the group being compressed; ``overlap``
    (ratio 4) keeps two groups and both halves' projections: 2 x 4 tokens of 2 x 2 x width.
    """

    label: ClassVar[str] = "compressor"
    formula: ClassVar[str] = "2 × width per token of the group (doubled twice where groups overlap)"
    about: ClassVar[str] = "The tokens of the group that is not yet compressed, in fp32."
    is_attention: ClassVar[bool] = False

    kind: Literal["compressor_state"] = "compressor_state"
    width: Size
    compress_ratio: Size
    overlap: Flag = False

    def slots(self) -> tuple[Slot, ...]:
        groups = 2 if self.overlap else 1
        return (Slot("compressor", 1, 2 * groups * self.width, "whole", "fp32"),)

    def entries(self, tokens: int) -> int:
        del tokens
        return self.fixed_entries()

    def fixed_entries(self) -> int:
        return self.compress_ratio * (2 if self.overlap else 1)

    def as_full_attention(self, kv_heads: int | None) -> CacheKind | None:
        del kv_heads
        return None
