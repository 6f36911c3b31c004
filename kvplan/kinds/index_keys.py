"""Keys of a sparse-attention indexer, kept beside the attention's own cache."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import ClassVar, Literal

from kvplan.kinds.base import BoundedKind, CacheKind, Slot
from kvplan.limits import Size

Indexer = Literal["DSA", "MSA", "QSA"]
"""Whose indexer: DeepSeek, MiniMax or Qwen sparse attention."""

IndexDtype = Literal["dsa_index", "bf16", "fp8", "mxfp4"]

DTYPES: dict[str, dict[str, IndexDtype]] = {
    "DSA": {"fp8": "dsa_index", "mxfp4": "mxfp4"},
    "MSA": {"bf16": "bf16", "fp8": "fp8"},
    "QSA": {"bf16": "bf16", "fp8": "fp8"},
}
"""What vLLM 0.33.0 stores for each word of ``indexer_kv_dtype``; ``auto`` is the first.

v1/attention/backends/mla/indexer.py:57 (DSA), models/minimax_m3/common/indexer.py:117 (MSA),
models/qwen4_exp/nvidia/indexer_qsa.py:152 (QSA: e4m3 without scales).
"""


@dataclass(frozen=True, kw_only=True)
class IndexKeys(CacheKind):
    """One key of ``index_head_dim`` elements for every ``compress_ratio`` tokens.

    DeepSeek sparse attention (V3.2, V4, GLM-5) keeps it as fp8 with an fp32 scale for each 128
    elements, whatever the KV dtype (vLLM 0.33.0 models/deepseek_v2.py:658, 731): 132 B; in mxfp4
    it is 68 B. MiniMax-M3 and Qwen3.8 keep theirs in bf16, also beside an fp8 cache (vLLM
    0.33.0's own page sizes, 256 B): ``index_dtype: bf16``. Where several tokens share a key
    (GLM-5.3, Qwen3.8), those of the open pool stand in a ``pool_tail``. Layers that share another
    layer's indexer own none.
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
    index_dtype: IndexDtype = "dsa_index"
    indexer: Indexer | None = None
    """None: MiniMax's for bf16, DeepSeek's for any other dtype."""

    def tag(self) -> str:
        # MiniMax sparse attention selects blocks with keys of its own, in the model's precision.
        return self.indexer or ("MSA" if self.index_dtype == "bf16" else self.label)

    def in_dtype(self, word: str) -> IndexKeys:
        """The same keys in another of the dtypes that vLLM has for this indexer.

        ``word`` is one of ``indexer_kv_dtype``. Raises ValueError with those that there are.
        """
        stored = DTYPES[self.tag()]
        if word not in stored:
            raise ValueError(f"{self.tag()} index keys are stored in {' or '.join(stored)}")
        indexer: Indexer = self.indexer or ("MSA" if self.index_dtype == "bf16" else "DSA")
        return replace(self, index_dtype=stored[word], indexer=indexer)

    def slots(self) -> tuple[Slot, ...]:
        return (Slot("index_key", 1, self.index_head_dim, "whole", self.index_dtype),)

    def entries(self, tokens: int) -> int:
        return tokens // self.compress_ratio

    def growth(self) -> Fraction:
        return Fraction(1, self.compress_ratio)

    def as_full_attention(self, kv_heads: int | None) -> CacheKind | None:
        del kv_heads
        return None


@dataclass(frozen=True, kw_only=True)
class PoolTail(BoundedKind):
    """``width`` elements for each of the last ``tokens`` tokens, from which a pooled key is made.

    GLM-5.3-Flash: key and gate of 128 in bf16 for 4 tokens (vLLM 0.33.0
    models/glm5next/common/attention.py:156). Qwen3.8: the key, and three positions as int64 where
    they have three axes (models/qwen4_exp/common/qsa_cache.py). DeepSeek-V4.1: value and gate in
    fp32 for 8 tokens (models/deepseek_v41/compressor.py:222). Drafts make an engine's ring longer.
    """

    label: ClassVar[str] = "tail"
    formula: ClassVar[str] = "width × tokens"
    about: ClassVar[str] = "The tokens of the pool that is not yet closed, as they are."
    is_attention: ClassVar[bool] = False

    kind: Literal["pool_tail"] = "pool_tail"
    width: Size
    tokens: Size
    state_dtype: Literal["fp32", "bf16", "fp16"] = "bf16"

    def slots(self) -> tuple[Slot, ...]:
        return (Slot("tail", 1, self.width, "whole", self.state_dtype),)

    def entries(self, tokens: int) -> int:
        del tokens
        return self.tokens

    def fixed_entries(self) -> int:
        return self.tokens

    def as_full_attention(self, kv_heads: int | None) -> CacheKind | None:
        del kv_heads
        return None
