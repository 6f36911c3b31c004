"""The limits that budgets set: how long a context, how many sequences."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf

from kvplan.planner.budget import Budget, unlike
from kvplan.units import largest

_MOST_TOKENS = 1 << 60


def max_context(budgets: tuple[Budget, ...], sequences: int) -> int | None:
    """The longest context of so many sequences in each group; None for any."""
    stages = unlike(budgets)
    return _most(
        lambda tokens: all(
            sequences * budget.cache.bytes_per_sequence_at(tokens) <= budget.room_bytes
            for budget in stages
        )
    )


def _most(holds: Callable[[int], bool]) -> int | None:
    """The largest number that holds, found by squaring and halving; None for any number."""
    high = 2
    while holds(high):
        if high >= _MOST_TOKENS:
            return None
        high = min(high * high, _MOST_TOKENS)
    return largest(holds, high - 1)


def max_sequences(budgets: Iterable[Budget]) -> int | None:
    """Whole sequences that one group holds at once; None for any number."""
    in_stage: list[int] = []
    for budget in unlike(budgets):
        if budget.room_bytes < 0:
            return 0
        if budget.cache.bytes_per_sequence:
            in_stage.append(budget.room_bytes // budget.cache.bytes_per_sequence)
    return min(in_stage, default=None)


def concurrency(budgets: tuple[Budget, ...]) -> float:
    """Sequences that one group holds, with a fraction; infinite where they keep nothing."""
    in_stage = (
        max(0, budget.room_bytes) / budget.cache.bytes_per_sequence
        for budget in unlike(budgets)
        if budget.cache.bytes_per_sequence
    )
    return min(in_stage, default=inf)
