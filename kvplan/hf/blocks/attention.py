"""Attention that keeps keys and values: MHA, GQA and MQA, full, sliding, chunked or shared."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from kvplan.hf.blocks.base import Block, Cache, Layer, Tensors, cache, linear, norm, vector
from kvplan.hf.config import Config, Figure

QkNorm = Literal["", "head", "all", "each"]
"""Of queries and keys: none, one head's width, all heads at once, or every head its own."""

_SPANS = {
    "sliding_window": "sliding_window",
    "chunked_local": "attention_chunk_size",
    "cross_attention": "encoder_tokens",
}


@dataclass(frozen=True, kw_only=True)
class Attention(Block):
    """One layer's attention; widths are elements a head.

    ``kind`` is what is kept of it; ``span`` counts the tokens of its window, its chunk or the
    encoder's input. A ``kv_shared`` layer reads the cache of an earlier one.
    """

    heads: int
    kv: int
    width: int
    v_width: int | None = None
    kind: str = "full_attention"
    span: int | None = None
    bias: bool = False
    unbiased: str = ""
    """Name of a matrix without the bias that the others have (Whisper's k_proj)."""
    out_bias: bool = False
    qk_norm: QkNorm = ""
    norm_bias: bool = False
    norm_names: tuple[str, str] = ("q_norm", "k_norm")
    gated: bool = False
    """The output gate doubles q_proj (Qwen3-Next)."""
    values: bool = True
    """Off where keys serve as values before their norms (Gemma-4)."""
    sinks: str = ""
    """Name of one figure a head that takes part in the softmax."""
    fused: str = ""
    """Name of the one matrix that makes queries, keys and values."""
    out: str = "o_proj"
    into: int | None = None
    """Columns of the matrices of q, k and v where they see more than the hidden size."""
    root: str = "self_attn"

    def sliding(self, window: Figure | int) -> Attention:
        """The same heads with a sliding window."""
        return replace(self, kind="sliding_window", span=window)

    def caches(self) -> tuple[Cache, ...]:
        span = {} if self.span is None else {_SPANS[self.kind]: self.span}
        return (
            cache(
                self.kind,
                num_attention_heads=self.heads,
                num_key_value_heads=self.kv,
                head_dim=self.width,
                v_head_dim=self.v_width,
                **span,
            ),
        )

    def weights(self, hidden: int) -> Tensors:
        root = f"{self.root}." if self.root else ""
        seen, out = self.into or hidden, self.heads * (self.v_width or self.width)
        for name, rows in self._rows().items():
            bias = self.bias and name != self.unbiased
            yield from linear("attention", f"{root}{name}", rows, seen, bias=bias)
        yield from linear("attention", f"{root}{self.out}", hidden, out, bias=self.out_bias)
        yield from self._norms()
        if self.sinks:
            yield from vector("attention", f"{self.root}.{self.sinks}", self.heads)

    def _rows(self) -> dict[str, int]:
        own = self.kind != "kv_shared"
        rows = {"q_proj": self.heads * self.width * (2 if self.gated else 1)}
        if own:
            rows["k_proj"] = self.kv * self.width
        if own and self.values:
            rows["v_proj"] = self.kv * (self.v_width or self.width)
        return {self.fused: sum(rows.values())} if self.fused else rows

    def _norms(self) -> Tensors:
        counts = (1, 1) if self.qk_norm == "head" else (self.heads, self.kv)
        names = self.norm_names[:1] if self.kind == "kv_shared" else self.norm_names
        for name, heads in zip(names, counts, strict=False):
            if self.qk_norm:
                width = heads * self.width
                yield from norm(f"{self.root}.{name}", width, bias=self.norm_bias)


@dataclass(frozen=True, kw_only=True)
class Gate(Block):
    """A matrix of its own that gates the output: as wide as all heads, or one row a head."""

    rows: int
    name: str = "self_attn.gate_proj"
    bias: bool = False

    def weights(self, hidden: int) -> Tensors:
        yield from linear("attention", self.name, self.rows, hidden, bias=self.bias)


def head_gate(_: Config, heads: Attention) -> Layer:
    """A gate of one row a head."""
    return (Gate(rows=heads.heads, name="self_attn.g_proj"),)
