"""The most that a device holds, found by allocating on a card without memory, and on the CPU."""

from __future__ import annotations

import pytest

from kvplan.measure.device.device import open_device
from kvplan.measure.device.search import MOST_ALLOCATIONS, longest_context, most_sequences
from kvplan.measure.question import CacheLayout
from tests.measure.device.fake_card import SEGMENT, fake_card
from tests.measure.samples import GIB, MIB, question

CPU = open_device("cpu")


@pytest.mark.parametrize("hidden_mib", [0, 2, 20, 300, -2, -64, -900])
def test_the_longest_context_is_found_by_few_allocations(
    hidden_mib: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = fake_card(monkeypatch, 78 * GIB + 123 * MIB, hidden_mib * MIB)
    longest = longest_context(card, question("llama3-70b"), CacheLayout.ARITHMETIC)  # type: ignore[arg-type]
    assert longest is not None
    really = card.capacity_bytes - hidden_mib * MIB
    # 160 tensors, each of 1,024 tokens of 2,048 B in a segment of 2 MiB
    assert longest.value == really // (160 * SEGMENT) * 1_024
    assert longest.exact
    assert longest.allocations <= MOST_ALLOCATIONS
    if hidden_mib == 0:
        assert longest.allocations == 2


def test_the_most_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    card = fake_card(monkeypatch, 78 * GIB)
    most = most_sequences(card, question("deepseek-v3", 131_072), CacheLayout.WHOLE)  # type: ignore[arg-type]
    assert most is not None
    assert (most.value, most.refused) == (9, 10)  # 8.578 GiB each
    assert most.planned_bytes == 9 * 9_210_691_584
    assert most.left_bytes == 78 * GIB - 9 * 9_210_691_584  # whole segments of 2 MiB


def test_a_bound_below_the_card_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    card = fake_card(monkeypatch, 10 * GIB)
    asked = question("llama2-7b", 8_192)
    longest = longest_context(card, asked, CacheLayout.ARITHMETIC, 5 * GIB)  # type: ignore[arg-type]
    assert longest is not None
    assert (longest.value, longest.refused, longest.left_bytes) == (10_240, 10_241, 0)


def test_a_bound_on_the_cpu_is_kept() -> None:
    longest = longest_context(CPU, question("llama3-70b"), CacheLayout.ARITHMETIC, 100 * MIB)
    assert longest is not None
    assert (longest.value, longest.refused, longest.allocations) == (320, 321, 1)
    assert longest.left_bytes == 0


def test_nothing_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    card = fake_card(monkeypatch, MIB)
    most = most_sequences(card, question("llama3-70b", 131_072), CacheLayout.WHOLE)  # type: ignore[arg-type]
    assert most is not None
    assert (most.value, most.refused, most.allocations, most.planned_bytes) == (0, 1, 1, 0)


def test_a_state_bounds_no_context() -> None:
    assert longest_context(CPU, question("mamba-2.8b"), CacheLayout.ARITHMETIC) is None
