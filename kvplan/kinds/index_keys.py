"""Keys of a sparse-attention indexer, kept beside the attention's own cache."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Literal

from kvplan.kinds.base import CacheKind, Slot
from kvplan.limits import Size


@dataclass(frozen=True, kw_only=True)
class IndexKeys(CacheKind):
    """One key of ``index_head_dim`` elements for every ``compress_ratio`` tokens.

    DeepSeek sparse attention (V3.2, V4, GLM-5) keeps it as fp8 with an fp32 scale for each 128
    elements, whatever the KV dtype (vLLM 0.33.0 models/deepseek_v2.py:658, 731): 132 B.
    MiniMax-M3 keeps its key in bf16, also beside an fp8 cache (vLLM 0.33.0's own page sizes,
    256 B): ``index_dtype: bf16``. Layers that share another layer's indexer own none.
    """

    label: ClassVar[str] = "DSA"
    formula: ClassVar[str] = "index_head_dim ÷ compress_ratio"
    about: ClassVar[str] = (
        "The indexer's own key, read for every token to choose which ones attention reads; "
        "it saves reading, not memory."
    )

    kind: Literal["index_keys"] = "index_keys"
    index_head_dim: Size
    compress_ratio: Size = 1
    index_dtype: Literal["dsa_index", "bf16"] = "dsa_index"

    def tag(self) -> str:
        # MiniMax sparse attention selects blocks with keys of its own, in the model's precision.
        return "MSA" if self.index_dtype == "bf16" else self.label

    def slots(self) -> tuple[Slot, ...]:
        return (Slot("index_key", 1, self.index_head_dim, "whole", self.index_dtype),)

    def entries(self, tokens: int) -> int:
        return tokens // self.compress_ratio

    def growth(self) -> Fraction:
        return Fraction(1, self.compress_ratio)

    def as_full_attention(self, kv_heads: int | None) -> CacheKind | None:
        del kv_heads
        return None
