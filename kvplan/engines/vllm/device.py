"""What vLLM before 0.21 counts with the weights on ROCm: all that the device has less.

platforms/rocm.py of 0.20.2, get_current_memory_usage, subtracts free memory from all of it, so that
the HIP runtime, what the steps of torch's allocator leave over, and what it keeps of copies that
were let go are in "Model loading took". From 0.21 on it is what is allocated, as on CUDA.
"""

from __future__ import annotations

from kvplan.engines.vllm.experts import Experts, experts_on_gpu
from kvplan.engines.vllm.matrices import matrices
from kvplan.gpu import Gpu
from kvplan.parallel import Layout
from kvplan.spec import ModelSpec
from kvplan.units import KIB, MIB

_RUNTIME_BYTES = {"gfx1201": 71_500 * KIB, "gfx942": 323 * MIB}
"""Of Llama-3.1-8B on R9700 and MI300X cards less what NVIDIA cards log: for both it is 1.1 MiB
a compute unit, of which they have 64 and 304."""
_LIKE = "gfx1201"
_INT32 = 4


def device_bytes(spec: ModelSpec, layout: Layout, gpu: Gpu) -> tuple[int, int, str | None]:
    """Bytes of all layers, bytes that are there once, and what they assume."""
    layers = sum(
        matrix.left_over_bytes * matrix.layers - matrix.rounding_bytes
        for matrix in matrices(spec, layout, gpu)
    )
    known = _RUNTIME_BYTES.get(gpu.gfx_target or "")
    once = known if known is not None else _RUNTIME_BYTES[_LIKE]
    experts = _packed_experts(spec, layout, gpu)
    if experts is not None:
        layers += _index_bytes(experts)
        once += sum(experts.matrix_bytes)
    return (
        layers,
        once,
        None if known is not None else "the HIP runtime as on an R9700",
    )


def _packed_experts(spec: ModelSpec, layout: Layout, gpu: Gpu) -> Experts | None:
    """Int4 experts of compressed-tensors, whose rows tell the shapes of packed matrices."""
    rows = [row for row in spec.weights if row.part == "routed_experts" and row.is_loaded]
    if not any(row.what == "shapes" for row in rows):
        return None
    return experts_on_gpu(spec, rows, layout, gpu)


def _index_bytes(experts: Experts) -> int:
    """Orders of columns and their inverses, which are registered for all experts and stay.

    compressed_tensors_moe_wna16.py of 0.20.2, CompressedTensorsWNA16MoEMethod: g_idx and
    g_idx_sort_indices of both matrices. It transposes each matrix of a layer into a new one, and
    the allocator keeps the memory of the first one that was let go.
    """
    hidden, width = experts.padded
    return experts.layers * experts.here * 2 * (hidden + width) * _INT32
