"""Time on a device: the median of repeated runs, captured in a CUDA graph where there is CUDA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter

import torch

from kvplan.measure.device.device import Device

_MEASURED_SECONDS = 0.25
_FEWEST, _MOST = 5, 200

Step = Callable[[], object]


def duration(device: Device, action: Step) -> float:
    """Seconds until the device has done this once."""
    device.synchronize()
    started = perf_counter()
    action()
    device.synchronize()
    return perf_counter() - started


def seconds(device: Device, steps: Sequence[Step], *, graph: bool = True) -> float:
    """Seconds that all these steps take one after the other, launches of a CPU left out.

    With ``graph`` they are captured once and replayed; every step has to keep to fixed memory.
    """
    for step in steps[:2]:
        step()  # compiles, loads and allocates what the first call does
    if device.kind == "cpu":
        return _median(lambda: duration(device, lambda: _run(steps)))
    replay = _capture(device, steps) if graph else lambda: _run(steps)
    replay()
    device.synchronize()
    return _median(lambda: _on_device(device, replay))


def _median(once: Callable[[], float]) -> float:
    """The median: several times, and for a quarter of a second."""
    durations: list[float] = []
    started = perf_counter()
    while len(durations) < _FEWEST or (
        perf_counter() - started < _MEASURED_SECONDS and len(durations) < _MOST
    ):
        durations.append(once())
    return median(durations)


def _run(steps: Sequence[Step]) -> None:
    for step in steps:
        step()


def _on_device(device: Device, replay: Callable[[], object]) -> float:
    start = torch.cuda.Event(enable_timing=True)
    end = torch.cuda.Event(enable_timing=True)
    start.record()
    replay()
    end.record()
    device.synchronize()
    return float(start.elapsed_time(end)) / 1_000


def _capture(device: Device, steps: Sequence[Step]) -> Callable[[], object]:
    stream = torch.cuda.Stream(device.torch_device)
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        _run(steps[:2])  # a graph must not capture a first call
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        _run(steps)
    return graph.replay
