"""What a device can do at most: bytes read a second, and multiplications in matrix products."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec

import torch

from kvplan.errors import MeasurementError
from kvplan.measure.device.caches import borrow_memory
from kvplan.measure.device.device import Device
from kvplan.measure.device.timing import Step, seconds
from kvplan.measure.rates import Ceilings
from kvplan.units import GIB, MIB

_BLOCK = 8192  # elements that are read at a time
_PER_SM = (2, 4, 8)  # programs on each multiprocessor that are tried
_READ_BYTES = {"cuda": 4 * GIB, "cpu": 64 * MIB}
_OPERANDS = {"cuda": torch.bfloat16, "cpu": torch.float32}  # what attention multiplies there
_ROWS = {"cuda": (8192, 4096, 2048), "cpu": (512, 256)}  # the first whose matrices fit
_MATRIX_BYTES = 16  # of an element: three matrices, and one of fp32 on the way
_WORKSPACE_BYTES = {"cuda": 128 * MIB, "cpu": 0}  # cuBLAS takes one for each stream and graph
_REPLAY_SECONDS = 0.15  # with the repetitions of a measurement, about a second on end


def measure_ceilings(device: Device, room: int) -> Ceilings:
    """The two ceilings of this device; at most ``room`` bytes are taken, and given back.

    Raises MeasurementError where that is too little to tell.
    """
    left = room - _WORKSPACE_BYTES[device.kind]
    rows = next((rows for rows in _ROWS[device.kind] if rows**2 * _MATRIX_BYTES <= left), None)
    if rows is None:
        raise MeasurementError(
            f"{room:,} bytes are too few to measure what the device can do",
            "a larger --max-bytes, or less on the card",
        )
    size = min(_READ_BYTES[device.kind], left // 2)
    return Ceilings(_read_rate(device, size), _matmul_rate(device, rows))


def _read_rate(device: Device, size: int) -> float:
    """Bytes read a second by a sum, which writes next to nothing: torch's, or ours where faster."""
    elements = max(1, size // (4 * _BLOCK)) * _BLOCK
    with borrow_memory(device) as tensors:
        tensors.append(torch.ones(elements, dtype=torch.int32, device=device.torch_device))
        steps = [lambda: tensors[0].sum(dtype=torch.int32), *_own_reads(tensors)]
        return elements * 4 / min(seconds(device, [step]) for step in steps)


def _own_reads(tensors: list[torch.Tensor]) -> list[Step]:
    """Our kernel over the first tensor, in a few shapes; none where Triton cannot build it."""
    if not tensors[0].is_cuda or find_spec("triton") is None:
        return []
    try:
        from kvplan.measure.kernels import triton_attention

        def read(per_sm: int) -> torch.Tensor:  # through the list, which does not outlive it
            return triton_attention.read(tensors[0], _BLOCK, per_sm)

        read(_PER_SM[0])
    except Exception:  # noqa: BLE001 - no compiler, another release of Triton: torch's sum does
        return []
    return [partial(read, per_sm) for per_sm in _PER_SM]


def _matmul_rate(device: Device, rows: int) -> float:
    """Operations a second of a square product, once the card has settled to its power limit.

    Random data: a card draws less power on zeros and runs faster than it ever will.
    """
    with borrow_memory(device) as tensors:
        for _ in range(3):
            random = torch.randn(rows, rows, device=device.torch_device)
            tensors.append(random.to(_OPERANDS[device.kind]))
        del random

        def product() -> torch.Tensor:
            return torch.matmul(tensors[0], tensors[1], out=tensors[2])

        first = seconds(device, [product])
        repeats = max(1, int(_REPLAY_SECONDS / first)) if device.kind == "cuda" else 1
        return 2 * rows**3 * repeats / seconds(device, [product] * repeats)
