"""The large matrices of a GPU one by one, as far as a spec tells their shapes.

torch's allocator gives each of 10 MiB or more memory of its own in steps of 2 MiB and counts what
is left over as allocated where that is 1 MiB or less (c10/cuda/CUDACachingAllocator.cpp of torch
2.11, should_split), so that a model of many such matrices takes visibly more than its weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kvplan.engines.vllm.experts import experts_on_gpu
from kvplan.gpu import Gpu
from kvplan.kinds.full_attention import AttentionHeads
from kvplan.parallel import Layout
from kvplan.spec import ModelSpec
from kvplan.stored import WEIGHT_BITS, StoredWeights
from kvplan.units import MIB, ceil_div

_OWN_MEMORY = 10 * MIB
_STEP = 2 * MIB
_NOT_SPLIT = MIB
_BESIDE = 100  # biases, norms and sinks are less than a hundredth of a part


@dataclass(frozen=True)
class Matrix:
    """A matrix of one size on so many layers."""

    size_bytes: int
    layers: int

    @property
    def left_over_bytes(self) -> int:
        """What its memory has beyond it, on each layer."""
        return -self.size_bytes % _STEP if self.size_bytes >= _OWN_MEMORY else 0

    @property
    def rounding_bytes(self) -> int:
        """Of that, what counts as allocated, on all layers."""
        left_over = self.left_over_bytes
        return left_over * self.layers if left_over <= _NOT_SPLIT else 0


def matrices(spec: ModelSpec, layout: Layout, gpu: Gpu) -> Iterator[Matrix]:
    """Matrices of attention, of a dense MLP in every layer, and of routed experts.

    Shapes are those of layers/linear.py: queries, keys and values in one, gate and up in one.
    Parts whose elements these shapes do not explain are left out.
    """
    if spec.hidden_size is None:
        return
    yield from _attention(spec, layout, spec.hidden_size)
    yield from _mlp(spec, layout, spec.hidden_size)
    rows = [row for row in spec.weights if row.part == "routed_experts" and row.is_loaded]
    experts = experts_on_gpu(spec, rows, layout, gpu)
    if experts is not None:
        for size_bytes in experts.matrix_bytes:
            yield Matrix(size_bytes, experts.layers)


def _largest(spec: ModelSpec, part: str) -> StoredWeights | None:
    rows = [row for row in spec.weights if row.part == part and row.is_loaded and row.what is None]
    return max(rows, key=lambda row: row.elements, default=None)


def _explains(elements: int, row: StoredWeights) -> bool:
    return abs(row.elements - elements) * _BESIDE <= elements


def _attention(spec: ModelSpec, layout: Layout, hidden: int) -> Iterator[Matrix]:
    row = _largest(spec, "attention")
    kinds = [
        (kind, layers) for kind, layers, _ in spec.caches() if isinstance(kind, AttentionHeads)
    ]
    widths = [
        (kind.num_attention_heads, kind.num_key_value_heads, kind.head_dim, kind.value_dim, layers)
        for kind, layers in kinds
    ]
    elements = sum(
        layers * hidden * (heads + kv) * (key + value) for heads, kv, key, value, layers in widths
    )
    if row is None or not _explains(elements, row):
        return
    bits = WEIGHT_BITS[row.dtype]
    for heads, kv, key, value, layers in widths:
        own, own_kv = ceil_div(heads, layout.tensor), ceil_div(kv, layout.tensor)
        yield Matrix(hidden * (own * key + own_kv * (key + value)) * bits // 8, layers)
        yield Matrix(hidden * own * value * bits // 8, layers)


def _mlp(spec: ModelSpec, layout: Layout, hidden: int) -> Iterator[Matrix]:
    row = _largest(spec, "dense_mlp")
    if row is None or spec.has_routed_experts:
        return
    width, rest = divmod(row.elements, 3 * hidden * spec.total_layers)
    if rest:
        return
    column = hidden * ceil_div(width, layout.tensor) * WEIGHT_BITS[row.dtype] // 8
    yield Matrix(2 * column, spec.total_layers)
    yield Matrix(column, spec.total_layers)
