"""What a layer registers with vLLM's block pool: a page of so many tokens, and how long it lives.

vLLM 0.33.0 v1/kv_cache_interface.py calls these KVCacheSpec. All sizes are of one GPU.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Literal

from kvplan.units import ceil_div

Kind = Literal["full", "mla", "sliding", "sliding_mla", "chunked", "state", "ring", "cross"]
"""FullAttentionSpec, MLAAttentionSpec, SlidingWindowSpec, SlidingWindowMLASpec,
ChunkedLocalAttentionSpec, MambaSpec, CircularBufferSpec and CrossAttentionSpec."""

FULL: frozenset[Kind] = frozenset({"full", "mla"})
"""Kinds that keep every token: one class and its descendant in vLLM."""
LOCAL: frozenset[Kind] = frozenset({"sliding", "sliding_mla", "chunked"})
"""Kinds that keep a window or a chunk."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What decides how many pages a request may need.

    ``context_tokens`` is max_model_len. ``in_flight_tokens`` are those that may be scheduled but
    not settled: windows keep their pages until then (vLLM 0.33.0 config/vllm.py:601).
    """

    context_tokens: int
    in_flight_tokens: int
    context_parallel: int = 1
    retained_tokens: int = 0
    """Tokens below a window that several MTP modules read once more."""
    encoder_tokens: int = 0


@dataclass(frozen=True, kw_only=True)
class LayerPages:
    """One cache of one layer. Layers whose values are equal can share a block table.

    ``content_bytes`` are those of a page before any padding; ``geometry`` is what else tells the
    specs of two layers apart in vLLM: heads, widths, dtype, the role of an indexer.
    """

    kind: Kind
    block_tokens: int
    content_bytes: int
    geometry: tuple[object, ...] = ()
    padded_bytes: int | None = None
    stride_bytes: int = 1
    """What the distance between pages is a multiple of."""
    window_tokens: int | None = None
    """Tokens of the window or chunk; of a full layer, the window that it was before."""
    state_pages: int = 1
    """Pages of a request, of a state or ring: they do not depend on its length."""
    least_bytes: int = field(default=0, compare=False)
    """Of a state, ring or encoder's input: what one sequence keeps, before drafts and copies."""
    is_shared: bool = True
    """Whether decode context parallelism divides its tokens (dcp_sharded)."""

    @property
    def page_bytes(self) -> int:
        """Bytes of a page, padding included."""
        return self.content_bytes if self.padded_bytes is None else self.padded_bytes

    @property
    def stride(self) -> int:
        """Bytes from a page to the next of the same layer."""
        return ceil_div(self.page_bytes, self.stride_bytes) * self.stride_bytes

    def pages(self, load: Load) -> int:
        """Pages that one request of the context may need (max_memory_usage_bytes over page)."""
        if self.kind in FULL:
            shared = load.context_parallel if self.is_shared else 1
            return ceil_div(ceil_div(load.context_tokens, shared), self.block_tokens)
        if self.kind in ("state", "ring"):
            return self.state_pages
        if self.kind == "cross":
            return ceil_div(load.encoder_tokens, self.block_tokens)
        window = self.window_tokens or 0
        if self.kind == "chunked":
            held = min(window + load.in_flight_tokens, load.context_tokens)
            return ceil_div(held, self.block_tokens)
        held = window - 1 + load.retained_tokens + load.in_flight_tokens
        return ceil_div(min(held, load.context_tokens), self.block_tokens) + 1

    def growth(self, context_parallel: int) -> Fraction:
        """Pages that one more token of a long request takes."""
        if self.kind not in FULL:
            return Fraction(0)
        return Fraction(1, self.block_tokens * (context_parallel if self.is_shared else 1))

    def in_blocks_of(self, block_tokens: int) -> LayerPages:
        """The same layer in pages of another number of tokens, without padding."""
        content = self.content_bytes * block_tokens // self.block_tokens
        return replace(self, block_tokens=block_tokens, content_bytes=content, padded_bytes=None)

    def padded_to(self, page_bytes: int) -> LayerPages:
        """The same layer in pages of so many bytes."""
        return replace(self, padded_bytes=page_bytes)

    def as_full(self, block_tokens: int) -> LayerPages:
        """The layer as full attention, its window kept in mind: the hybrid manager is off."""
        page_bytes = self.padded_bytes
        resized = self.in_blocks_of(block_tokens)
        if page_bytes is not None:
            resized = resized.padded_to(max(page_bytes, resized.content_bytes))
        return replace(resized, kind="mla" if self.kind == "sliding_mla" else "full")
