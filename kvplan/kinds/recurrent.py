"""Recurrent layers: a state of fixed size for each sequence, in place of keys and values.

The convolution's tail of ``conv_kernel - 1`` inputs is kept in the model's dtype, the recurrent
state in ``state_dtype``, which is set where the config names one, and fp32 otherwise; the KV dtype
touches neither, and engines have options of their own for both. Shapes and options as in vLLM
0.33.0 model_executor/layers/mamba/mamba_utils.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from kvplan.kinds.base import CONV, LINEAR_STATE, STATE, Slot, Split, StateKind
from kvplan.limits import Limit, Size

StateDtype = Literal["fp32", "bf16", "fp16"]
ConvKernel = Annotated[int, Limit(ge=2, le=64)]


@dataclass(frozen=True, kw_only=True)
class ConvState(StateKind):
    """A state with the tail of a causal convolution in front of it."""

    conv_kernel: ConvKernel

    def conv(self, heads: int, width: int, split: Split = "divide") -> Slot:
        """The last ``conv_kernel - 1`` inputs of ``heads x width`` channels."""
        return Slot("conv", heads, width * (self.conv_kernel - 1), split, CONV)


@dataclass(frozen=True, kw_only=True)
class Mamba1(ConvState):
    """Selective state space (arXiv 2312.00752): conv ``d_inner``, state ``d_inner x d_state``."""

    label: ClassVar[str] = "Mamba"
    formula: ClassVar[str] = "d_inner × (conv_kernel − 1) + d_inner × d_state"

    kind: Literal["mamba1"] = "mamba1"
    d_inner: Size
    d_state: Size
    state_dtype: StateDtype | None = None

    def slots(self) -> tuple[Slot, ...]:
        return (
            self.conv(self.d_inner, 1),
            Slot("state", self.d_inner, self.d_state, "divide", self.state_dtype or STATE),
        )


@dataclass(frozen=True, kw_only=True)
class Mamba2(ConvState):
    """State space duality (arXiv 2405.21060).

    Shapes: conv over ``num_heads x head_dim`` inputs and ``2 x n_groups x d_state`` (B and C),
    state ``num_heads x head_dim x d_state``. Groups are replicated where GPUs outnumber them.
    """

    label: ClassVar[str] = "Mamba-2"
    formula: ClassVar[str] = (
        "(num_heads × head_dim + 2 × n_groups × d_state) × (conv_kernel − 1)"
        " + num_heads × head_dim × d_state"
    )

    kind: Literal["mamba2"] = "mamba2"
    num_heads: Size
    head_dim: Size
    n_groups: Size
    d_state: Size
    state_dtype: StateDtype | None = None

    def slots(self) -> tuple[Slot, ...]:
        return (
            self.conv(self.num_heads, self.head_dim),
            self.conv(self.n_groups, 2 * self.d_state, "replicate"),
            Slot(
                "state",
                self.num_heads,
                self.head_dim * self.d_state,
                "divide",
                self.state_dtype or STATE,
            ),
        )


@dataclass(frozen=True, kw_only=True)
class GatedDeltaNet(ConvState):
    """Gated delta rule (arXiv 2412.06464; Qwen3-Next, Qwen3.5).

    Shapes: conv over queries, keys and values, state
    ``num_value_heads x value_head_dim x key_head_dim``.
    """

    label: ClassVar[str] = "GDN"
    formula: ClassVar[str] = (
        "(2 × num_key_heads × key_head_dim + num_value_heads × value_head_dim) × (conv_kernel − 1)"
        " + num_value_heads × value_head_dim × key_head_dim"
    )

    kind: Literal["gated_delta_net"] = "gated_delta_net"
    num_key_heads: Size
    num_value_heads: Size
    key_head_dim: Size
    value_head_dim: Size
    state_dtype: StateDtype | None = None

    def slots(self) -> tuple[Slot, ...]:
        state_width = self.value_head_dim * self.key_head_dim
        return (
            self.conv(self.num_key_heads, 2 * self.key_head_dim),
            self.conv(self.num_value_heads, self.value_head_dim),
            Slot("state", self.num_value_heads, state_width, "divide", self.state_dtype or STATE),
        )


@dataclass(frozen=True, kw_only=True)
class KimiDeltaAttention(ConvState):
    """Kimi delta attention (Kimi Linear, arXiv 2510.26692).

    Shapes: conv over queries, keys and values, state ``num_heads x head_dim x head_dim``.
    """

    label: ClassVar[str] = "KDA"
    formula: ClassVar[str] = (
        "3 × num_heads × head_dim × (conv_kernel − 1) + num_heads × head_dim × head_dim"
    )

    state_formats: ClassVar[tuple[str, ...]] = ("fp32", "bf16")  # kda_state_dtype, mamba_utils.py

    kind: Literal["kimi_delta_attention"] = "kimi_delta_attention"
    num_heads: Size
    head_dim: Size
    state_dtype: StateDtype | None = None

    def slots(self) -> tuple[Slot, ...]:
        return (
            self.conv(self.num_heads, 3 * self.head_dim),
            Slot("state", self.num_heads, self.head_dim**2, "divide", self.state_dtype or "fp32"),
        )


@dataclass(frozen=True, kw_only=True)
class LightningAttention(StateKind):
    """Lightning attention (arXiv 2501.08313): state ``heads x head_dim x head_dim``, no conv."""

    label: ClassVar[str] = "lightning"
    formula: ClassVar[str] = "num_heads × head_dim × head_dim"

    kind: Literal["lightning_attention"] = "lightning_attention"
    num_heads: Size
    head_dim: Size
    state_dtype: StateDtype | None = None

    def slots(self) -> tuple[Slot, ...]:
        return (
            Slot(
                "state",
                self.num_heads,
                self.head_dim**2,
                "divide",
                self.state_dtype or LINEAR_STATE,
            ),
        )


@dataclass(frozen=True, kw_only=True)
class ShortConv(ConvState):
    """A short convolution: the tail of ``channels`` inputs and nothing else (LFM2, Inkling).

    Tensor parallelism divides the channels; with ``heads``, it divides these, and replicates them
    once GPUs outnumber them, as the KV heads whose keys or values are convolved (Inkling).
    ``split: whole`` is a convolution that every GPU keeps (Qwen3.8's n-gram embeddings).
    """

    label: ClassVar[str] = "conv"
    formula: ClassVar[str] = "channels × (conv_kernel − 1)"
    about: ClassVar[str] = "Only the last inputs of a short convolution are kept."

    kind: Literal["short_conv"] = "short_conv"
    channels: Size
    heads: Size | None = None
    split: Split | None = None

    def __post_init__(self) -> None:
        if self.channels % (self.heads or 1):
            raise ValueError(f"{self.channels} channels are not a multiple of {self.heads} heads")

    def slots(self) -> tuple[Slot, ...]:
        if self.split == "whole":
            return (self.conv(1, self.channels, "whole"),)
        heads = self.heads or self.channels
        split = self.split or ("divide" if self.heads is None else "replicate")
        return (self.conv(heads, self.channels // heads, split),)


@dataclass(frozen=True, kw_only=True)
class RgLru(ConvState):
    """Real-gated linear recurrent unit (Griffin, arXiv 2402.19427): one figure a channel.

    Shapes: conv and state ``lru_width``. The gates are block diagonal, ``num_heads`` blocks.
    """

    label: ClassVar[str] = "RG-LRU"
    formula: ClassVar[str] = "lru_width × (conv_kernel − 1) + lru_width"

    kind: Literal["rg_lru"] = "rg_lru"
    lru_width: Size
    num_heads: Size
    state_dtype: StateDtype = "fp32"

    def __post_init__(self) -> None:
        if self.lru_width % self.num_heads:
            raise ValueError(f"lru_width {self.lru_width} is not a multiple of {self.num_heads}")

    def slots(self) -> tuple[Slot, ...]:
        width = self.lru_width // self.num_heads
        return (
            self.conv(self.num_heads, width),
            Slot("state", self.num_heads, width, "divide", self.state_dtype),
        )


@dataclass(frozen=True, kw_only=True)
class Mlstm(StateKind):
    """xLSTM's matrix memory (arXiv 2405.04517): a matrix, a normaliser and a maximum a head."""

    label: ClassVar[str] = "mLSTM"
    formula: ClassVar[str] = "num_heads × (qk_head_dim × v_head_dim + qk_head_dim + 1)"

    kind: Literal["mlstm"] = "mlstm"
    num_heads: Size
    qk_head_dim: Size
    v_head_dim: Size
    state_dtype: StateDtype = "fp32"

    def slots(self) -> tuple[Slot, ...]:
        width = self.qk_head_dim * self.v_head_dim + self.qk_head_dim + 1
        return (Slot("state", self.num_heads, width, "divide", self.state_dtype),)


@dataclass(frozen=True, kw_only=True)
class TokenShift(StateKind):
    """RWKV: the last inputs of time and channel mixing, in the model's dtype, on every GPU."""

    hidden_size: Size

    def shift(self) -> Slot:
        """One input of each of the two."""
        return Slot("shift", 1, 2 * self.hidden_size, "whole", "model")


@dataclass(frozen=True, kw_only=True)
class Rwkv4(TokenShift):
    """RWKV-4 (arXiv 2305.13048): numerator, denominator and maximum of each channel, in fp32."""

    label: ClassVar[str] = "RWKV-4"
    formula: ClassVar[str] = "2 × hidden_size + 3 × attention_hidden_size"

    kind: Literal["rwkv4"] = "rwkv4"
    attention_hidden_size: Size
    state_dtype: StateDtype = "fp32"

    def slots(self) -> tuple[Slot, ...]:
        state = Slot("state", self.attention_hidden_size, 3, "divide", self.state_dtype)
        return (self.shift(), state)


@dataclass(frozen=True, kw_only=True)
class Rwkv(TokenShift):
    """RWKV-5, 6 and 7 (arXiv 2404.05892, 2503.14456): a matrix ``head_dim x v_head_dim`` a head."""

    label: ClassVar[str] = "RWKV"
    formula: ClassVar[str] = "2 × hidden_size + num_heads × head_dim × v_head_dim"

    kind: Literal["rwkv"] = "rwkv"
    num_heads: Size
    head_dim: Size
    v_head_dim: Size | None = None
    state_dtype: StateDtype = "fp32"

    def slots(self) -> tuple[Slot, ...]:
        width = self.head_dim * (self.v_head_dim or self.head_dim)
        return (self.shift(), Slot("state", self.num_heads, width, "divide", self.state_dtype))
