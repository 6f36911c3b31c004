"""How time is taken: by a clock that ticks once a look."""

from __future__ import annotations

from itertools import count

import pytest

from kvplan.measure.device import timing
from kvplan.measure.device.device import open_device
from kvplan.measure.device.timing import duration, seconds

CPU = open_device("cpu")


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = count()
    monkeypatch.setattr(timing, "perf_counter", lambda: float(next(ticks)))


def test_a_duration_is_from_one_look_to_the_next() -> None:
    calls: list[str] = []
    assert duration(CPU, lambda: calls.append("once")) == 1.0
    assert calls == ["once"]


def test_seconds_are_the_median_of_five_runs_at_least() -> None:
    calls: list[int] = []
    steps = [lambda number=number: calls.append(number) for number in range(3)]
    assert seconds(CPU, steps) == 1.0
    assert calls == [0, 1, *(5 * [0, 1, 2])]  # two of them run once before
