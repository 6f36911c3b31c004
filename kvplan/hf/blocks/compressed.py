"""DeepSeek-V4's attention over compressed keys, and the residual streams around it.

Names are those of the published checkpoint. State shapes: vLLM 0.33.0
models/deepseek_v4/compressor.py:179.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kvplan.hf.blocks.base import Block, Cache, Tensors, cache, linear, norm, vector

CSA = 4
"""Ratio of compressed sparse attention, the one whose groups overlap and that has an indexer."""


@dataclass(frozen=True, kw_only=True)
class CompressedAttention(Block):
    """A window of raw vectors and, with a ``ratio``, one vector for so many tokens before it.

    Ratio 4 (CSA) has an indexer of ``index_width``; 128 (HCA) has none. ``groups`` are those of
    the output projection, ``o_rank`` the rank of each.
    """

    heads: int
    width: int
    rope: int
    window: int
    ratio: int | None = None
    index_width: int | None = None
    q_rank: Callable[[], int]
    o_rank: Callable[[], int]
    groups: Callable[[], int]
    index_heads: Callable[[], int]
    root: str = "attn"

    def caches(self) -> tuple[Cache, ...]:
        window = cache(
            "latent_window",
            head_dim=self.width,
            qk_rope_head_dim=self.rope,
            num_attention_heads=self.heads,
            sliding_window=self.window,
        )
        return (*self._compressed(), window)

    def _compressed(self) -> tuple[Cache, ...]:
        ratio, width = self.ratio, self.width
        if ratio is None:
            return ()
        kept = cache(
            "compressed_kv", head_dim=width, qk_rope_head_dim=self.rope, compress_ratio=ratio
        )
        if self.index_width is None:
            return (kept, cache("compressor_state", width=width, compress_ratio=ratio))
        keys = cache("index_keys", index_head_dim=self.index_width, compress_ratio=ratio)
        widths = (width, self.index_width)
        states = (
            cache("compressor_state", width=each, compress_ratio=ratio, overlap=True)
            for each in widths
        )
        return (kept, keys, *states)

    def weights(self, hidden: int) -> Tensors:
        root, inner, part = self.root, self.heads * self.width, "attention"
        q_rank, o_rank, groups = self.q_rank(), self.o_rank(), self.groups()
        yield from vector(part, f"{root}.attn_sink", self.heads, dtype="fp32")
        yield from linear("attention_down", f"{root}.wq_a", q_rank, hidden)
        yield from norm(f"{root}.q_norm", q_rank)
        yield from linear(part, f"{root}.wq_b", inner, q_rank)
        yield from linear("attention_down", f"{root}.wkv", self.width, hidden)
        yield from norm(f"{root}.kv_norm", self.width)
        yield from linear(part, f"{root}.wo_a", groups * o_rank, inner // groups)
        yield from linear(part, f"{root}.wo_b", hidden, groups * o_rank)
        if self.ratio is not None:
            yield from self._compressors(self.ratio, hidden)

    def _compressors(self, ratio: int, hidden: int) -> Tensors:
        """The main one is whole on every rank (vLLM 0.33.0: disable_tp), as the indexer is."""
        double = 2 if self.index_width is not None else 1
        rows, root = double * self.width, f"{self.root}.compressor"
        yield from _projections("attention_down", root, ratio, rows, hidden)
        yield from norm(f"{root}.norm", self.width)
        if self.index_width is not None:
            yield from self._indexer(self.index_width, ratio, hidden)

    def _indexer(self, width: int, ratio: int, hidden: int) -> Tensors:
        root, heads, part = f"{self.root}.indexer", self.index_heads(), "indexer"
        yield from _projections(part, f"{root}.compressor", ratio, 2 * width, hidden)
        yield from norm(f"{root}.compressor.norm", width, part=part)
        yield from linear(part, f"{root}.wq_b", heads * width, self.q_rank())
        yield from vector(part, f"{root}.weights_proj", heads, hidden)


def _projections(part: str, root: str, ratio: int, rows: int, hidden: int) -> Tensors:
    """Value and gate of a compressor, and a figure for each place in a group of tokens."""
    yield from vector(part, f"{root}.ape", ratio, rows, dtype="fp32")
    yield from vector(part, f"{root}.wkv", rows, hidden)
    yield from vector(part, f"{root}.wgate", rows, hidden)


@dataclass(frozen=True, kw_only=True)
class HyperConnections(Block):
    """(2 + m) m figures that mix m residual streams, in fp32 (arXiv 2606.19348).

    Without ``mixed`` (HY-V4) streams are read and written, and not mixed: 2 m figures.
    """

    streams: int
    dtype: str = "fp32"
    """Of the matrix, ``fn``."""
    mixed: bool = True
    places: tuple[str, ...] = ("hc_attn", "hc_ffn")

    def weights(self, hidden: int) -> Tensors:
        mixes = (2 + self.streams if self.mixed else 2) * self.streams
        scales = 3 if self.mixed else 2
        shapes = {"fn": (mixes, self.streams * hidden), "base": (mixes,), "scale": (scales,)}
        for place in self.places:
            for name, shape in shapes.items():
                dtype = self.dtype if name == "fn" else "fp32"
                yield from vector("other", f"{place}_{name}", *shape, dtype=dtype)


@dataclass(frozen=True, kw_only=True)
class HyperHead(Block):
    """What makes one stream of all before the head."""

    streams: int

    def weights(self, hidden: int) -> Tensors:
        shapes = {"fn": (self.streams, self.streams * hidden), "base": (self.streams,)}
        for name, shape in {**shapes, "scale": (1,)}.items():
            yield from vector("other", f"hc_head_{name}", *shape, dtype="fp32")


@dataclass(frozen=True, kw_only=True)
class SharedCompressedAttention(Block):
    """DeepSeek-V4.1: a window on every layer; what is compressed is kept by the sources alone.

    A source keeps one vector and one index key for ``ratio`` tokens, which the layers after it
    read; a ratio above one has a ring of 8 tokens' values and gates in fp32 (vLLM 0.33.0
    models/deepseek_v41/compressor.py:222). Its weights are not counted.
    """

    heads: int
    width: int
    rope: int
    window: int
    ratio: int | None = None
    index_width: int | None = None

    def caches(self) -> tuple[Cache, ...]:
        shape = {"head_dim": self.width, "qk_rope_head_dim": self.rope}
        window = cache(
            "latent_window",
            **shape,
            num_attention_heads=self.heads,
            sliding_window=self.window,
        )
        if self.ratio is None:
            return (window,)
        kept = cache("compressed_kv", **shape, compress_ratio=self.ratio)
        keys = cache("index_keys", index_head_dim=self.index_width, compress_ratio=self.ratio)
        ring = cache("pool_tail", width=2 * self.width, tokens=8, state_dtype="fp32")
        return (kept, keys, window) if self.ratio == 1 else (kept, keys, ring, window)
