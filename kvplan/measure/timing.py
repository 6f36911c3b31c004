"""Time on a device: the median of repeated runs, captured in a CUDA graph where there is CUDA."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter

import torch

from kvplan.measure.device import Device

_MEASURED_SECONDS = 0.25
_FEWEST, _MOST = 5, 200

Step = Callable[[], object]


def seconds(device: Device, steps: Sequence[Step], *, graph: bool = True) -> float:
    """Seconds that all these steps take one after the other, launches of a CPU left out.

    With ``graph`` they are captured once and replayed; every step has to keep to fixed memory.
    """
    for step in steps[:2]:
        step()  # compiles, loads and allocates what the first call does
    if device.kind == "cpu":
        return _repeated(lambda: _on_host(steps))
    replay = _captured(device, steps) if graph else lambda: _run(steps)
    replay()
    device.synchronize()
    return _repeated(lambda: _on_device(device, replay))


def _repeated(once: Callable[[], float]) -> float:
    """The median: several times, and for a quarter of a second."""
    taken: list[float] = []
    started = perf_counter()
    while len(taken) < _FEWEST or (
        perf_counter() - started < _MEASURED_SECONDS and len(taken) < _MOST
    ):
        taken.append(once())
    return median(taken)


def _run(steps: Sequence[Step]) -> None:
    for step in steps:
        step()


def _on_host(steps: Sequence[Step]) -> float:
    started = perf_counter()
    _run(steps)
    return perf_counter() - started


def _on_device(device: Device, replay: Callable[[], object]) -> float:
    start = torch.cuda.Event(enable_timing=True)
    end = torch.cuda.Event(enable_timing=True)
    start.record()
    replay()
    end.record()
    device.synchronize()
    return float(start.elapsed_time(end)) / 1_000


def _captured(device: Device, steps: Sequence[Step]) -> Callable[[], object]:
    stream = torch.cuda.Stream(device.torch_device)
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        _run(steps[:2])  # a graph must not capture a first call
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        _run(steps)
    return graph.replay
