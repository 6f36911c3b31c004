"""Blocks that keep a state of fixed size: Mamba, delta rules, lightning attention, convolutions.

Sources: the modeling files of transformers 5.24.0 named beside each block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

from kvplan.hf.blocks.base import (
    UNSURE,
    Block,
    Cache,
    Tensors,
    cache,
    linear,
    norm,
    vector,
)
from kvplan.hf.config import UncountedError

_PART = "recurrent"


def _conv(name: str, channels: int, kernel: int, *, bias: bool) -> Tensors:
    yield from vector(_PART, name, channels, kernel)
    if bias:
        yield from vector(_PART, f"{name}.bias", channels)


@dataclass(frozen=True, kw_only=True)
class _State(Block):
    """What keeps a state; ``figures`` are its cache's, each with the field that holds it."""

    kind: ClassVar[str]
    figures: ClassVar[tuple[tuple[str, str], ...]]
    state_dtype: str | None = None

    def caches(self) -> tuple[Cache, ...]:
        figures = {key: getattr(self, field) for key, field in self.figures}
        return (cache(self.kind, **figures, state_dtype=self.state_dtype),)


@dataclass(frozen=True, kw_only=True)
class Mamba1(_State):
    """MambaMixer, and Jamba's with norms of dt, B and C (``normed``)."""

    kind = "mamba1"
    figures = (("d_inner", "inner"), ("d_state", "state"), ("conv_kernel", "kernel"))
    inner: int
    state: int
    kernel: int
    rank: Callable[[], int]
    """Columns of dt_proj."""
    bias: bool = False
    conv_bias: bool = True
    normed: bool = False
    heads: int | None = None
    """Zamba: each of so many makes its own dt, B and C, in tensors that no quantiser touches."""
    root: str = "mixer"

    def weights(self, hidden: int) -> Tensors:
        root, inner, rank = self.root, self.inner, self.rank()
        yield from vector(_PART, f"{root}.A_log", inner, self.state, dtype=UNSURE)
        yield from vector(_PART, f"{root}.D", inner, dtype=UNSURE)
        yield from _conv(f"{root}.conv1d", inner, self.kernel, bias=self.conv_bias)
        yield from linear(_PART, f"{root}.in_proj", 2 * inner, hidden, bias=self.bias)
        yield from self._selection(rank)
        yield from linear(_PART, f"{root}.out_proj", hidden, inner, bias=self.bias)
        widths = {"dt": rank, "b": self.state, "c": self.state} if self.normed else {}
        for name, width in widths.items():
            yield from norm(f"{root}.{name}_layernorm", width)

    def _selection(self, rank: int) -> Tensors:
        """What makes dt, B and C of the input."""
        root, inner, rows = self.root, self.inner, rank + 2 * self.state
        if self.heads is None:
            yield from linear(_PART, f"{root}.x_proj", rows, inner)
            yield from linear(_PART, f"{root}.dt_proj", inner, rank, bias=True)
            return
        each = inner // self.heads
        yield from vector(_PART, f"{root}.x_proj_weight", self.heads, rows, each)
        yield from vector(_PART, f"{root}.dt_proj_weight", self.heads, each, rank)
        yield from vector(_PART, f"{root}.dt_proj_bias", self.heads, each)


@dataclass(frozen=True, kw_only=True)
class Mamba2(_State):
    """Mamba2Mixer; its inner width is heads times head width."""

    kind = "mamba2"
    figures = (
        ("num_heads", "heads"),
        ("head_dim", "width"),
        ("n_groups", "groups"),
        ("d_state", "state"),
        ("conv_kernel", "kernel"),
    )
    heads: int
    width: int
    groups: int
    state: int
    kernel: int
    bias: bool = False
    conv_bias: bool = True
    normed: bool = True
    decay_dtype: str | None = UNSURE
    """Of A_log, D and dt_bias; None where it is the model's."""
    root: str = "mamba"

    def weights(self, hidden: int) -> Tensors:
        root, inner = self.root, self.heads * self.width
        channels = inner + 2 * self.groups * self.state
        for name in ("dt_bias", "A_log", "D"):
            yield from vector(_PART, f"{root}.{name}", self.heads, dtype=self.decay_dtype)
        yield from _conv(f"{root}.conv1d", channels, self.kernel, bias=self.conv_bias)
        rows = inner + channels + self.heads
        yield from linear(_PART, f"{root}.in_proj", rows, hidden, bias=self.bias)
        if self.normed:
            yield from norm(f"{root}.norm", inner, part=_PART)
        yield from linear(_PART, f"{root}.out_proj", hidden, inner, bias=self.bias)


@dataclass(frozen=True, kw_only=True)
class GatedDeltaNet(_State):
    """Gated DeltaNet; ``matrices`` says which of its input matrices are one.

    "joined": two of them (Qwen3NextGatedDeltaNet), "apart": four (Qwen3.5), "each": one a purpose
    (OlmoHybridGatedDeltaNet, which has names of its own).
    """

    kind = "gated_delta_net"
    figures = (
        ("num_key_heads", "key_heads"),
        ("num_value_heads", "value_heads"),
        ("key_head_dim", "key_width"),
        ("value_head_dim", "value_width"),
        ("conv_kernel", "kernel"),
    )
    key_heads: int
    value_heads: int
    key_width: int
    value_width: int
    kernel: int
    matrices: Literal["joined", "apart", "each"] = "apart"
    root: str = "linear_attn"

    def weights(self, hidden: int) -> Tensors:
        root, heads, values = self.root, self.value_heads, self.value_heads * self.value_width
        keys = self.key_heads * self.key_width
        last, out = ("o_norm", "o_proj") if self.matrices == "each" else ("norm", "out_proj")
        for name, rows in self._rows(keys, values).items():
            yield from linear(_PART, f"{root}.{name}", rows, hidden)
        yield from _conv(f"{root}.conv1d", 2 * keys + values, self.kernel, bias=False)
        yield from vector(_PART, f"{root}.dt_bias", heads)
        yield from vector(_PART, f"{root}.A_log", heads, dtype=UNSURE)
        yield from vector(_PART, f"{root}.{last}", self.value_width, dtype=UNSURE)
        yield from linear(_PART, f"{root}.{out}", hidden, values)

    def _rows(self, keys: int, values: int) -> dict[str, int]:
        heads, mixed = self.value_heads, 2 * keys + values
        if self.matrices == "joined":
            return {"in_proj_qkvz": mixed + values, "in_proj_ba": 2 * heads}
        if self.matrices == "apart":
            return {
                "in_proj_qkv": mixed,
                "in_proj_z": values,
                "in_proj_b": heads,
                "in_proj_a": heads,
            }
        rows = {"q_proj": keys, "k_proj": keys, "v_proj": values, "g_proj": values}
        return {**rows, "a_proj": heads, "b_proj": heads}


@dataclass(frozen=True, kw_only=True)
class KimiDelta(_State):
    """Kimi delta attention: a short convolution for each of q, k and v, a decay and an output gate.

    modeling_kimi_linear.py; ``full_rank_gate`` is Kimi-K3's, whose output gate is one matrix.
    """

    kind = "kimi_delta_attention"
    figures = (("num_heads", "heads"), ("head_dim", "width"), ("conv_kernel", "kernel"))
    heads: int
    width: int
    kernel: int
    full_rank_gate: bool = False
    root: str = "self_attn"

    def weights(self, hidden: int) -> Tensors:
        root, inner = self.root, self.heads * self.width
        dtype = "fp32" if self.full_rank_gate else UNSURE
        for letter in "qkv":
            yield from linear(_PART, f"{root}.{letter}_proj", inner, hidden)
            yield from vector(_PART, f"{root}.{letter}_conv1d", inner, self.kernel, dtype=dtype)
        for letter in "f" if self.full_rank_gate else "fg":
            yield from linear(_PART, f"{root}.{letter}_a_proj", self.width, hidden)
            yield from linear(_PART, f"{root}.{letter}_b_proj", inner, self.width)
        if self.full_rank_gate:
            yield from linear(_PART, f"{root}.g_proj", inner, hidden)
        yield from vector(_PART, f"{root}.dt_bias", inner, dtype="fp32")
        yield from vector(_PART, f"{root}.A_log", self._decay_rows(), dtype="fp32")
        yield from linear(_PART, f"{root}.b_proj", self.heads, hidden)
        yield from vector(_PART, f"{root}.o_norm", self.width, dtype=dtype)
        yield from linear(_PART, f"{root}.o_proj", hidden, inner)

    def _decay_rows(self) -> int:
        """Kimi-K3 stores 128 decay figures for its 96 heads; other counts were never published."""
        if not self.full_rank_gate:
            return self.heads
        if self.heads != 96:  # noqa: PLR2004 - Kimi-K3's own
            raise UncountedError("use_full_rank_gate is on with other than Kimi-K3's 96 heads")
        return 128


@dataclass(frozen=True, kw_only=True)
class Lightning(_State):
    """MiniMaxLightningAttention: a square state a head; one matrix makes q, k and v, one gates."""

    kind = "lightning_attention"
    figures = (("num_heads", "heads"), ("head_dim", "width"))
    heads: int
    width: int
    root: str = "self_attn"

    def weights(self, hidden: int) -> Tensors:
        root, inner = self.root, self.heads * self.width
        yield from norm(f"{root}.norm", inner)
        yield from linear("attention", f"{root}.qkv_proj", 3 * inner, hidden)
        yield from linear("attention", f"{root}.out_proj", hidden, inner)
        yield from linear("attention", f"{root}.output_gate", inner, hidden)


@dataclass(frozen=True, kw_only=True)
class ShortConv(_State):
    """Lfm2ShortConv: a gated convolution over the hidden size."""

    kind = "short_conv"
    figures = (("channels", "channels"), ("conv_kernel", "kernel"))
    channels: int
    kernel: int
    bias: bool = False
    root: str = "conv"

    def weights(self, hidden: int) -> Tensors:
        root = self.root
        yield from _conv(f"{root}.conv", hidden, self.kernel, bias=self.bias)
        yield from linear(_PART, f"{root}.in_proj", 3 * hidden, hidden, bias=self.bias)
        yield from linear(_PART, f"{root}.out_proj", hidden, hidden, bias=self.bias)


@dataclass(frozen=True, kw_only=True)
class Conv(Block):
    """A causal convolution of each channel alone, under a name of its own (Inkling).

    ``heads`` are the KV heads that its channels belong to; ``whole`` is on every GPU.
    """

    channels: int
    kernel: int
    name: str
    heads: int | None = None
    whole: bool = False
    reach: int | None = None
    """Tokens that it looks back over, where it leaves some out."""

    def caches(self) -> tuple[Cache, ...]:
        figures = {"channels": self.channels, "conv_kernel": self.reach or self.kernel}
        split = "whole" if self.whole else None
        return (cache("short_conv", **figures, heads=self.heads, split=split),)

    def weights(self, hidden: int) -> Tensors:
        del hidden
        yield from vector(_PART, self.name, self.channels, self.kernel, dtype=UNSURE)
