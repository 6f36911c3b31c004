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
    if any(budget.excess_bytes for budget in stages):
        return 0
    return _most(
        lambda tokens: all(
            budget.kv_bytes_at(tokens, sequences) <= budget.room_bytes for budget in stages
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
        if budget.room_bytes < 0 or budget.excess_bytes:
            return 0
        size, reserved, available = _units(budget)
        if size:
            in_stage.append(max(0, available - reserved) // size)
    return min(in_stage, default=None)


def concurrency(budgets: tuple[Budget, ...]) -> float:
    """Sequences that one group holds, with a fraction; infinite where they keep nothing.

    As vLLM 0.33.0 counts (v1/core/kv_cache_utils.py:1061): reserved pages included, and a room that
    is given taken at its word.
    """
    in_stage = []
    for budget in unlike(budgets):
        size, _, available = _units(budget)
        if size:
            in_stage.append(available / size)
    return min(in_stage, default=inf)


def _units(budget: Budget) -> tuple[int, int, int]:
    """What a sequence takes, what no sequence gets, and what there is: in pages, else in bytes."""
    if budget.pages is not None:
        pages = budget.pages
        return pages.sequence_pages, pages.pool.reserved_pages, budget.page_count or 0
    room_bytes = 0 if budget.excess_bytes else max(0, budget.room_bytes)
    return budget.cache.bytes_per_sequence, 0, room_bytes
