"""What a measurement proves: every counter has to show what was predicted."""

from __future__ import annotations

from typing import Any

import pytest

from kvplan.measure.prediction import Prediction
from kvplan.measure.question import CacheLayout
from kvplan.measure.results import CacheMeasurement, Card, Maximum
from tests.measure.samples import MIB, question

PLANNED = 32 * MIB  # of llama2-7b's cache of 64 tokens
PROVED: dict[str, Any] = {
    "question": question("llama2-7b"),
    "layout": CacheLayout.WHOLE,
    "asked_tokens": 64,
    "tensors": 1,
    "planned_bytes": PLANNED,
    "tensor_bytes": PLANNED,
    "allocated_bytes": 1_000,
    "reserved_bytes": 2_000,
    "device_bytes": 2_000,
    "peak_bytes": 3_000,
    "prediction": Prediction(1_000, 2_000, 3_000),
    "intact": True,
    "left_bytes": 0,
    "allocate_seconds": 0.1,
    "write_seconds": 0.1,
    "read_seconds": 0.1,
    "free_seconds": 0.1,
}
COUNTERS = ("allocated_bytes", "reserved_bytes", "device_bytes", "peak_bytes")


def measurement(**changes: Any) -> CacheMeasurement:
    return CacheMeasurement(**{**PROVED, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"allocated_bytes": 1_512},
        {"reserved_bytes": 4_000},
        {"device_bytes": 4_000},
        {"peak_bytes": 3_001},
        {"tensor_bytes": 1},
        {"left_bytes": 512},
        {"intact": False},
        {"prediction": None},  # and the counters do not show the plan either
    ],
)
def test_any_counter_that_differs_proves_nothing(changes: dict[str, Any]) -> None:
    assert measurement().is_proved
    assert not measurement(**changes).is_proved


def test_where_nothing_is_predicted_the_plan_is_what_counts() -> None:
    assert measurement(prediction=None, **dict.fromkeys(COUNTERS, PLANNED)).is_proved
    more = measurement(prediction=None, **dict.fromkeys(COUNTERS, PLANNED + 512))
    assert not more.is_proved
    assert more.is_unpredicted
    assert not measurement(prediction=None, intact=False).is_unpredicted


def test_a_device_without_counters_proves_the_bytes() -> None:
    host = measurement(prediction=None, **dict.fromkeys(COUNTERS))
    assert host.is_proved
    assert not host.is_unpredicted
    lossy = measurement(prediction=None, intact=False, **dict.fromkeys(COUNTERS))
    assert not lossy.is_proved


def test_a_shorter_cache_than_was_asked_for() -> None:
    assert not measurement().is_short
    assert measurement(asked_tokens=65).is_short


def test_a_maximum_is_exact_where_one_more_was_refused() -> None:
    assert Maximum(7, 8, 7, 2, 700, 50).exact
    assert not Maximum(7, 9, 7, 2, 700, 50).exact
    assert not Maximum(7, None, 7, 12, 700, 50).exact


def test_a_process_costs_the_sum_of_what_is_known() -> None:
    card = Card("a card", "cuda", "2.11", 100, 90, 80, context_bytes=5, kernels_bytes=3)
    assert card.process_bytes is None
    card = Card("a card", "cuda", "2.11", 100, 90, 80, None, None, None, 5, 3, 2)
    assert card.process_bytes == 10
