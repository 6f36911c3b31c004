"""Routed experts as vLLM 0.33.0 lays them out: padded to what the chosen kernel takes.

Which kernel that is rests on the GPU alone here (``--moe-backend auto``, no LoRA, no batched
all-to-all). Paths are of vLLM's package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction

from kvplan.gpu import Gpu
from kvplan.parallel import Layout
from kvplan.spec import ModelSpec
from kvplan.stored import WEIGHT_BITS, StoredWeights
from kvplan.units import ceil_div

_GATED = 3  # gate, up and down
_HOPPER, _BLACKWELL = 9, 10  # major compute capability of H100 and B200; consumer Blackwell is 12
_PLAIN_BITS = 16
_BLOCK = 128  # rows and columns of fp8 under one scale

Capability = tuple[int, int]
Sizes = tuple[int, int]
"""Hidden size of a layer, and width of one expert on one GPU."""


@dataclass(frozen=True)
class Experts:
    """Experts of one model on one GPU: sizes as published, and as they lie there."""

    matrices: StoredWeights
    """The row of their matrices."""
    count: int
    here: int
    hidden: int
    width: int
    padded: Sizes
    swizzled: bool
    """Whether OpenAI's Triton kernel takes them, on Hopper."""

    @property
    def _all_matrices(self) -> int:
        """Matrices of an expert's size in all layers."""
        return self.matrices.elements // (self.count * self.hidden * self.width)

    @property
    def _in_layer(self) -> int:
        """Matrices of an expert: gate, up and down, or up and down where three do not divide."""
        return _GATED if self._all_matrices % _GATED == 0 else _GATED - 1

    @property
    def layers(self) -> int:
        """Layers that have them."""
        return self._all_matrices // self._in_layer

    @property
    def matrix_bytes(self) -> tuple[int, int]:
        """All but down of all experts here, which are one matrix, and down, of one layer."""
        hidden, width = self.padded
        down = self.here * hidden * width * WEIGHT_BITS[self.matrices.dtype] // 8
        return (self._in_layer - 1) * down, down

    @property
    def share(self) -> Fraction:
        """Elements of one matrix of all experts here over those of the model."""
        hidden, width = self.padded
        return Fraction(self.here * hidden * width, self.count * self.hidden * self.width)

    def biases(self) -> int:
        """Biases of gate and up (width) and down (hidden) of all experts here."""
        hidden, width = self.padded
        return self.layers * self.here * (2 * width + hidden)

    def swizzled_scales(self) -> int:
        """Scales of mxfp4 in the Hopper layout, a byte each: rows in 256, columns in twos.

        third_party/triton_kernels/tensor_details/layout_details/hopper_scale.py:22-29.
        """
        hidden, width = self.padded
        up = _up(2 * width, 256) * _up(ceil_div(hidden, 32), 2)
        down = _up(hidden, 256) * _up(ceil_div(width, 32), 2)
        return self.layers * self.here * (up + down)

    def published_biases(self) -> int:
        """The same of the model."""
        return self.layers * self.count * (2 * self.width + self.hidden)


def capability(gpu: Gpu) -> Capability | None:
    """(9, 0) of "9.0"; None of a GPU that is not NVIDIA's or does not say it."""
    if gpu.compute_capability is None:
        return None
    major, _, minor = gpu.compute_capability.partition(".")
    return int(major), int(minor)


def expert_bytes(
    spec: ModelSpec, rows: Iterable[StoredWeights], layout: Layout, gpu: Gpu
) -> int | None:
    """Bytes of all layers' routed experts on the fullest GPU, ``rows`` being all of the model's.

    None where the sizes that padding rests on are not known, or do not explain the elements
    (experts of a latent width, several widths, packed weights): an even share is then all there is
    to say.
    """
    rows = tuple(rows)
    experts = experts_on_gpu(spec, rows, layout, gpu)
    if experts is None:
        return None
    return sum(_row_bytes(row, experts, gpu) for row in rows)


def _matrix_row(rows: tuple[StoredWeights, ...]) -> StoredWeights | None:
    """The row of the matrices; None where several dtypes share them (a mixed checkpoint)."""
    own = [row for row in rows if row.what is None]
    if any(row.what == "packed" for row in rows) or not own:
        return None
    largest = max(own, key=lambda row: row.elements)
    beside = sum(row.elements for row in own) - largest.elements
    return largest if beside * 100 < largest.elements else None


def experts_on_gpu(
    spec: ModelSpec, rows: Iterable[StoredWeights], layout: Layout, gpu: Gpu
) -> Experts | None:
    """The experts of the fullest GPU; None where their sizes are not known."""
    rows = tuple(rows)
    matrices = _matrix_row(rows)
    count, hidden, width = spec.routed_experts, spec.hidden_size, spec.expert_intermediate_size
    if matrices is None or count is None or hidden is None or width is None:
        return None
    if matrices.elements % (count * hidden * width):
        return None
    gpus = layout.tensor * layout.data
    here, own_width = count, ceil_div(width, gpus)
    if layout.expert_parallel:
        here, own_width = ceil_div(count, gpus), width
    pad = _padding(spec, rows)
    padded = pad(capability(gpu), (hidden, own_width))
    swizzled = pad is _gpt_oss and _major(gpu) == _HOPPER
    return Experts(matrices, count, here, hidden, width, padded, swizzled)


def _row_bytes(row: StoredWeights, experts: Experts, gpu: Gpu) -> int:
    bits = WEIGHT_BITS[row.dtype]
    if row is not experts.matrices and row.what is None:
        if row.elements != experts.published_biases():
            return ceil_div(row.size_bytes * experts.here, experts.count)
        # oracle/mxfp4.py:1026 and :1446: biases are fp32 for TRT-LLM's and OpenAI's kernels.
        bits = 32 if _major(gpu) in (_HOPPER, _BLACKWELL) else bits
        return ceil_div(experts.biases() * bits, 8)
    if row.what == "scales" and row.dtype == "e8m0" and experts.swizzled:
        return experts.swizzled_scales()
    return ceil_div(int(row.elements * experts.share) * bits, 8)


def _major(gpu: Gpu) -> int | None:
    own = capability(gpu)
    return own and own[0]


def _padding(
    spec: ModelSpec, rows: tuple[StoredWeights, ...]
) -> Callable[[Capability | None, Sizes], Sizes]:
    """How the kernel for these rows pads hidden size and width."""
    matrices = _matrix_row(rows)
    scales = {row.dtype for row in rows if row.what == "scales"}
    if matrices is not None and matrices.dtype == "fp4":
        if "e8m0" not in scales:
            return _nvfp4
        return _gpt_oss if spec.architecture == "GptOssForCausalLM" else _mxfp4
    if matrices is not None and WEIGHT_BITS[matrices.dtype] == _PLAIN_BITS:
        return _unquantized
    return _fp8_blocks if spec.expert_block == _BLOCK else _unpadded


def _gpt_oss(major_minor: Capability | None, sizes: Sizes) -> Sizes:
    """fused_moe/oracle/mxfp4.py:837 mxfp4_round_up_hidden_size_and_intermediate_size.

    The first that a GPU supports of :402 _get_priority_backends_for_gpt_oss: TRT-LLM's on SM100,
    OpenAI's Triton on SM90, Marlin on SM80, SM89 and SM120.
    """
    hidden, width = sizes
    if major_minor is not None and major_minor[0] == _HOPPER:
        return hidden, _up(width, 64)
    return _mxfp4(major_minor, sizes)


def _mxfp4(major_minor: Capability | None, sizes: Sizes) -> Sizes:
    """The same for :438 _get_priority_backends: TRT-LLM's on SM100, Marlin on others.

    On ROCm (no compute capability) both sizes are rounded to 256.
    """
    hidden, width = sizes
    return _up(hidden, 256), _up(width, 256 if major_minor is None else 128)


def _nvfp4(major_minor: Capability | None, sizes: Sizes) -> Sizes:
    """TRT-LLM's on SM100 (utils/flashinfer_fp4_moe.py:400), Marlin (marlin_utils_fp4.py:359)."""
    hidden, width = sizes
    if major_minor is not None and major_minor[0] == _BLACKWELL:
        return _up(hidden, 256), _up(width, 64)
    return hidden, _up(width, 64 if hidden % 128 == 0 else 128)


def _fp8_blocks(_: Capability | None, sizes: Sizes) -> Sizes:
    """fused_moe/oracle/fp8.py:324 pad_tp_shard_to_weight_blocks."""
    hidden, width = sizes
    return hidden, _up(width, _BLOCK)


def _unquantized(major_minor: Capability | None, sizes: Sizes) -> Sizes:
    """fused_moe/oracle/unquantized.py:385: TRT-LLM's kernels, the first choice on SM100."""
    hidden, width = sizes
    is_trtllm = major_minor is not None and major_minor[0] == _BLACKWELL
    return hidden, _up(width, _BLOCK) if is_trtllm else width


def _unpadded(_: Capability | None, sizes: Sizes) -> Sizes:
    return sizes


def _up(size: int, multiple: int) -> int:
    return ceil_div(size, multiple) * multiple
