"""What a device can do at most: bytes read a second, and multiplications in matrix products."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from kvplan.measure.caches import held
from kvplan.measure.device import Device
from kvplan.measure.timing import seconds
from kvplan.units import GIB, MIB

_READ_BYTES = {"cuda": 4 * GIB, "cpu": 64 * MIB}
_OPERANDS = {"cuda": torch.bfloat16, "cpu": torch.float32}  # what attention multiplies there
_ROWS = {"cuda": 8192, "cpu": 512}
_REPLAY_SECONDS = 0.15  # with the repetitions of a measurement, about a second on end


@dataclass(frozen=True)
class Ceilings:
    """Rates that were measured: a pure read, and bf16 matrix products kept up for a second."""

    read_bytes_per_second: float
    matmul_flops_per_second: float

    def roof_seconds(self, size_bytes: int, flops: int) -> float:
        """The least time for so many bytes and operations: the larger of the two."""
        return max(size_bytes / self.read_bytes_per_second, flops / self.matmul_flops_per_second)


def measured_ceilings(device: Device) -> Ceilings:
    """The two ceilings of this device; up to 5 GiB of it are taken, and given back."""
    size = min(_READ_BYTES[device.kind], device.usable_bytes() // 4)
    return Ceilings(_read_rate(device, size), _matmul_rate(device, _ROWS[device.kind]))


def _read_rate(device: Device, size: int) -> float:
    """Bytes read a second by a sum, which writes next to nothing (99% of a bare read kernel)."""
    with held(device) as tensors:
        tensors.append(torch.ones(size // 4, dtype=torch.int32, device=device.torch_device))
        taken = seconds(device, [lambda: tensors[0].sum(dtype=torch.int32)])
        return tensors[0].numel() * 4 / taken


def _matmul_rate(device: Device, rows: int) -> float:
    """Operations a second of a square product, once the card has settled to its power limit.

    Random data: a card draws less power on zeros and runs faster than it ever will.
    """
    with held(device) as tensors:
        for _ in range(3):
            random = torch.randn(rows, rows, device=device.torch_device)
            tensors.append(random.to(_OPERANDS[device.kind]))
        del random

        def product() -> torch.Tensor:
            return torch.matmul(tensors[0], tensors[1], out=tensors[2])

        first = seconds(device, [product])
        repeats = max(1, int(_REPLAY_SECONDS / first)) if device.kind == "cuda" else 1
        return 2 * rows**3 * repeats / seconds(device, [product] * repeats)
