"""What a device can do, out of the times that its reads and products took."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from kvplan.errors import MeasurementError
from kvplan.measure.device import ceilings
from kvplan.measure.device.ceilings import measure_ceilings
from kvplan.measure.device.device import Device, open_device
from kvplan.measure.device.timing import Step
from tests.measure.samples import GIB, MIB

CPU = open_device("cpu")


def test_rates_are_work_over_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def half_a_second_a_step(_device: Device, steps: Sequence[Step]) -> float:
        for step in steps:
            step()
        return 0.5 * len(steps)

    monkeypatch.setattr(ceilings, "seconds", half_a_second_a_step)
    rates = measure_ceilings(CPU, GIB)
    assert rates.read_bytes_per_second == 2 * 64 * MIB
    assert rates.matmul_flops_per_second == 2 * 2 * 512**3
    small = measure_ceilings(CPU, 2 * MIB)  # room for matrices of 256, and a read of half of it
    assert small.read_bytes_per_second == 2 * MIB
    assert small.matmul_flops_per_second == 2 * 2 * 256**3


def test_ceilings_are_measured() -> None:
    rates = measure_ceilings(CPU, 8 * MIB)
    assert rates.read_bytes_per_second > 0
    assert rates.matmul_flops_per_second > 0


def test_ceilings_keep_to_their_room() -> None:
    with pytest.raises(MeasurementError, match="too few to measure"):
        measure_ceilings(CPU, 100_000)
