"""Latent attention (MLA), and the indexers that choose what sparse attention reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kvplan.hf.blocks.base import Block, Cache, Tensors, cache, linear, norm, vector
from kvplan.hf.config import Figure, origin


@dataclass(frozen=True, kw_only=True)
class MLA(Block):
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434); widths are elements a head.

    ``q_rank`` is the rank of the queries, None where one matrix makes them. The projections into
    the latents are copied to every rank of tensor parallelism, the rest is split.
    """

    heads: int
    rank: int
    rope: int
    nope: int
    v_width: int
    q_rank: Callable[[], int | None]
    bias: bool = False
    span: int | None = None
    """Tokens of its window, where it has one."""
    reads: bool = False
    """Reads the latents of an earlier layer."""
    root: str = "self_attn"

    def caches(self) -> tuple[Cache, ...]:
        if self.reads:
            heads = {"num_attention_heads": self.heads, "num_key_value_heads": self.heads}
            width = self.nope + self.rope
            return (cache("kv_shared", **heads, head_dim=width, v_head_dim=self.v_width),)
        return (
            cache(
                "mla" if self.span is None else "sliding_mla",
                num_attention_heads=self.heads,
                kv_lora_rank=self.rank,
                qk_rope_head_dim=self.rope,
                qk_nope_head_dim=self.nope,
                v_head_dim=self.v_width,
                sliding_window=self.span,
            ),
        )

    def weights(self, hidden: int) -> Tensors:
        root, latent = self.root, self.rank + self.rope
        yield from self._queries(hidden)
        if not self.reads:
            name = f"{root}.kv_a_proj_with_mqa"
            yield from linear("attention_down", name, latent, hidden, bias=self.bias)
            yield from norm(f"{root}.kv_a_layernorm", self.rank)
        rows = self.heads * (self.nope + self.v_width)
        yield from linear("attention", f"{root}.kv_b_proj", rows, self.rank)
        inner = self.heads * self.v_width
        yield from linear("attention", f"{root}.o_proj", hidden, inner, bias=self.bias)

    def _queries(self, hidden: int) -> Tensors:
        rows, rank, root = self.heads * (self.nope + self.rope), self.q_rank(), self.root
        if rank is None:
            yield from linear("attention", f"{root}.q_proj", rows, hidden)
            return
        yield from linear("attention_down", f"{root}.q_a_proj", rank, hidden, bias=self.bias)
        yield from norm(f"{root}.q_a_layernorm", rank)
        yield from linear("attention", f"{root}.q_b_proj", rows, rank)


@dataclass(frozen=True, kw_only=True)
class Indexer(Block):
    """DeepSeek sparse attention's indexer (DeepseekV32Indexer); weights_proj is never quantised.

    ``pool`` tokens share a key, which a gate and a figure for each place in the pool weigh out
    (Glm5NextTextIndexer); of the open pool, engines keep key and gate of each token in bf16.
    """

    width: int
    heads: Callable[[], int]
    q_rank: Callable[[], int]
    """Columns of the matrix of its queries."""
    pool: int | None = None
    dtype: str | None = None
    """Of its norm and head weights, where they are not the model's."""
    root: str = "self_attn.indexer"

    def caches(self) -> tuple[Cache, ...]:
        if self.pool is None:
            return (cache("index_keys", index_head_dim=self.width),)
        keys = cache("index_keys", index_head_dim=self.width, compress_ratio=self.pool)
        both = Figure(2 * self.width, f"2 × {origin(self.width)}")
        return (keys, cache("pool_tail", width=both, tokens=self.pool))

    def weights(self, hidden: int) -> Tensors:
        part, root, heads = "indexer", self.root, self.heads()
        yield from linear(part, f"{root}.wq_b", heads * self.width, self.q_rank())
        yield from linear(part, f"{root}.wk", self.width, hidden)
        for name in ("k_norm", "k_norm.bias"):
            yield from vector(part, f"{root}.{name}", self.width, dtype=self.dtype)
        yield from vector(part, f"{root}.weights_proj", heads, hidden, dtype=self.dtype)
        if self.pool is not None:
            yield from vector(part, f"{root}.index_kpool_compress_ape", self.pool, self.width)
            yield from vector(part, f"{root}.index_kpool_compress_gate", self.width, hidden)


@dataclass(frozen=True, kw_only=True)
class BlockIndexer(Block):
    """MiniMax-M3's indexer, which chooses blocks of keys, and its bf16 key (MiniMaxM3VLTextConfig).

    vLLM 0.33.0's own page sizes give 256 B a key, beside an fp8 cache too.
    """

    width: int
    heads: Callable[[], int]
    root: str = "self_attn"

    def caches(self) -> tuple[Cache, ...]:
        return (cache("index_keys", index_head_dim=self.width, index_dtype="bf16", indexer="MSA"),)

    def weights(self, hidden: int) -> Tensors:
        part, root = "indexer", self.root
        yield from linear(part, f"{root}.index_q_proj", self.heads() * self.width, hidden)
        yield from linear(part, f"{root}.index_k_proj", self.width, hidden)
        yield from norm(f"{root}.index_q_norm", self.width, part=part)
        yield from norm(f"{root}.index_k_norm", self.width, part=part)


@dataclass(frozen=True, kw_only=True)
class PooledIndexer(Block):
    """Qwen3.8's indexer: the mean key of ``pool`` tokens, in bf16 (Qwen4ExpTextQSAIndexer).

    Of the open pool each token's key is kept as it is, with its position on each of ``axes``
    rotary axes as int64 (vLLM 0.33.0 models/qwen4_exp/common/qsa_cache.py:805).
    """

    width: int
    heads: Callable[[], int]
    pool: int
    axes: int = 0
    root: str = "self_attn.indexer"

    def caches(self) -> tuple[Cache, ...]:
        keys = cache(
            "index_keys",
            index_head_dim=self.width,
            compress_ratio=self.pool,
            index_dtype="bf16",
            indexer="QSA",
        )
        return (keys, cache("pool_tail", width=self._row(), tokens=self.pool))

    def _row(self) -> int:
        """Key and positions: an int64 each, in place of four elements of bf16 and aligned to it."""
        if not self.axes:
            return self.width
        width = -(-self.width // 4) * 4 + 4 * self.axes
        return Figure(width, f"{origin(self.width)} and {self.axes} positions")

    def weights(self, hidden: int) -> Tensors:
        part, root = "indexer", self.root
        rows = (self.heads() + 1) * self.width
        yield from linear(part, f"{root}.index_qk_proj", rows, hidden)
        yield from norm(f"{root}.q_layernorm", self.width, part=part)
        yield from norm(f"{root}.k_layernorm", self.width, part=part)
