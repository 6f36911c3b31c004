"""What a card has, as torch and the driver see it."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from kvplan.measure.device.card import driver_facts, read_card
from kvplan.measure.device.device import open_device
from kvplan.measure.results import Driver
from tests.measure.samples import GIB


def test_the_host_as_a_card() -> None:
    card = read_card(open_device("cpu"))
    assert card.kind == "cpu"
    assert 0 < card.usable_bytes < card.free_bytes <= card.total_bytes
    assert card.process_bytes is None


class FakeNvml(ModuleType):
    """NVML's Python interface (nvidia-ml-py, pynvml.py) with an H100 behind it."""

    class NVMLError(Exception):
        """What NVML raises."""

    nvmlMemory_v2 = 2  # noqa: N815
    nvmlInit = nvmlShutdown = staticmethod(lambda: None)  # noqa: N815
    nvmlSystemGetDriverVersion = staticmethod(lambda: "580.159.04")  # noqa: N815

    def __init__(self, processes: list[int | None] | None) -> None:
        super().__init__("pynvml")
        self.processes = processes

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        if uuid != "GPU-1234":
            raise self.NVMLError
        return uuid

    def nvmlDeviceGetMemoryInfo(  # noqa: N802
        self, _handle: str, version: int | None = None
    ) -> SimpleNamespace:
        free = 85_017_493_504 if version == 2 else 84_000_000_000
        return SimpleNamespace(total=85_520_809_984, free=free)

    def nvmlDeviceGetComputeRunningProcesses(  # noqa: N802
        self, _handle: str
    ) -> list[SimpleNamespace]:
        if self.processes is None:
            raise self.NVMLError
        return [SimpleNamespace(usedGpuMemory=size) for size in self.processes]


@pytest.mark.parametrize(
    ("processes", "others"),
    [([], (0, 0)), ([3 * GIB, GIB], (4 * GIB, 2)), ([None], (None, 1)), (None, (None, None))],
)
def test_what_the_driver_says(
    processes: list[int | None] | None,
    others: tuple[int | None, int | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(processes))
    facts = Driver("580.159.04", 85_520_809_984, 85_017_493_504, *others)
    assert driver_facts("1234") == driver_facts("GPU-1234") == facts
    assert driver_facts("of another maker") is None
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert driver_facts("1234") is None
