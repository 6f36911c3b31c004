"""RWKV, RecurrentGemma's linear recurrent unit, and xLSTM's matrix memory.

Sources: transformers 5.24.0 modeling_rwkv.py, modeling_recurrent_gemma.py, modeling_xlstm.py;
flash-linear-attention fla/layers/rwkv7.py for RWKV-7.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kvplan.hf.blocks.base import Block, Cache, Tensors, cache, linear, norm, vector

_PART = "recurrent"


@dataclass(frozen=True, kw_only=True)
class Rwkv4(Block):
    """RwkvSelfAttention and RwkvFeedForward: each keeps its last input."""

    hidden: int
    inner: int
    width: Callable[[], int]
    """Of the feed-forward."""

    def caches(self) -> tuple[Cache, ...]:
        return (cache("rwkv4", hidden_size=self.hidden, attention_hidden_size=self.inner),)

    def weights(self, hidden: int) -> Tensors:
        inner, width = self.inner, self.width()
        for name in ("time_decay", "time_first"):
            yield from vector(_PART, f"attention.{name}", inner)
        for name in ("key", "value", "receptance"):
            yield from vector(_PART, f"attention.time_mix_{name}", hidden)
            yield from linear(_PART, f"attention.{name}", inner, hidden)
        yield from linear(_PART, "attention.output", hidden, inner)
        for name in ("key", "receptance"):
            yield from vector("dense_mlp", f"feed_forward.time_mix_{name}", hidden)
        yield from linear("dense_mlp", "feed_forward.key", width, hidden)
        yield from linear("dense_mlp", "feed_forward.receptance", hidden, hidden)
        yield from linear("dense_mlp", "feed_forward.value", hidden, width)


@dataclass(frozen=True, kw_only=True)
class Rwkv7(Block):
    """RWKV7Attention and RWKV7FeedForward; ``first`` has no residual of the first layer's values.

    ``ranks`` are those of decay, a, v and gate.
    """

    hidden: int
    heads: int
    head_width: int
    v_width: int | None = None
    ranks: Callable[[], tuple[int, int, int, int]]
    width: Callable[[], int]
    """Of the feed-forward."""
    first: bool = False

    def caches(self) -> tuple[Cache, ...]:
        return (
            cache(
                "rwkv",
                hidden_size=self.hidden,
                num_heads=self.heads,
                head_dim=self.head_width,
                v_head_dim=self.v_width,
            ),
        )

    def weights(self, hidden: int) -> Tensors:
        values = self.heads * (self.v_width or self.head_width)
        for letter in "rwkvag":
            yield from vector(_PART, f"attn.x_{letter}", hidden)
        for name in ("k_k", "k_a"):
            yield from vector(_PART, f"attn.{name}", hidden)
        yield from vector(_PART, "attn.r_k", self.heads, self.head_width)
        for letter, rows in {"r": hidden, "k": hidden, "v": values}.items():
            yield from linear(_PART, f"attn.{letter}_proj", rows, hidden)
        yield from linear(_PART, "attn.o_proj", hidden, values)
        yield from self._low_rank(hidden, values)
        yield from norm("attn.g_norm", values, bias=True, part=_PART)
        yield from vector("dense_mlp", "ffn.x_k", hidden)
        yield from linear("dense_mlp", "ffn.key", self.width(), hidden)
        yield from linear("dense_mlp", "ffn.value", hidden, self.width())

    def _low_rank(self, hidden: int, values: int) -> Tensors:
        decay, a, v, gate = self.ranks()
        shapes = {"w": (decay, hidden), "a": (a, hidden), "v": (v, values), "g": (gate, values)}
        for letter, (rank, out) in shapes.items():
            if letter == "v" and self.first:
                continue
            root = f"attn.{letter}_lora.lora"
            yield from linear(_PART, f"{root}.0", rank, hidden)
            yield from linear(_PART, f"{root}.2", out, rank, bias=letter != "g")


@dataclass(frozen=True, kw_only=True)
class Recurrence(Block):
    """RecurrentGemmaRecurrentBlock: two branches, a convolution, and block-diagonal gates."""

    width: int
    heads: int
    kernel: int
    root: str = "temporal_block"

    def caches(self) -> tuple[Cache, ...]:
        figures = {"lru_width": self.width, "num_heads": self.heads, "conv_kernel": self.kernel}
        return (cache("rg_lru", **figures),)

    def weights(self, hidden: int) -> Tensors:
        root, width, block = self.root, self.width, self.width // self.heads
        for name in ("linear_x", "linear_y"):
            yield from linear(_PART, f"{root}.{name}", width, hidden, bias=True)
        yield from linear(_PART, f"{root}.linear_out", hidden, width, bias=True)
        yield from vector(_PART, f"{root}.conv_1d", width, self.kernel)
        yield from vector(_PART, f"{root}.conv_1d.bias", width)
        yield from vector(_PART, f"{root}.rg_lru.recurrent_param", width)
        for name in ("input_gate", "recurrent_gate"):
            yield from vector(_PART, f"{root}.rg_lru.{name}_weight", self.heads, block, block)
            yield from vector(_PART, f"{root}.rg_lru.{name}_bias", self.heads, block)


@dataclass(frozen=True, kw_only=True)
class MatrixMemory(Block):
    """xLSTMLayer; the state is of widths rounded up to 64, the matrices are not."""

    heads: int
    keys: int
    values: int
    key_rows: int
    value_rows: int
    bias: bool = False
    state_dtype: str | None = None
    root: str = "mlstm_layer"

    def caches(self) -> tuple[Cache, ...]:
        figures = {"num_heads": self.heads, "qk_head_dim": self.keys, "v_head_dim": self.values}
        return (cache("mlstm", **figures, state_dtype=self.state_dtype),)

    def weights(self, hidden: int) -> Tensors:
        root, keys, values, bias = self.root, self.key_rows, self.value_rows, self.bias
        rows = {"q": keys, "k": keys, "v": values, "ogate_preact": values}
        for name, out in rows.items():
            yield from linear(_PART, f"{root}.{name}", out, hidden, bias=bias)
        for name in ("igate_preact", "fgate_preact"):
            yield from linear(_PART, f"{root}.{name}", self.heads, hidden, bias=True)
        width = values // self.heads * self.heads
        yield from norm(f"{root}.multihead_norm", width, bias=bias)
        yield from linear(_PART, f"{root}.out_proj", hidden, values, bias=bias)
