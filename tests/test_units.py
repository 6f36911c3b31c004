"""Searches and conversions of whole numbers."""

from __future__ import annotations

from kvplan.units import largest


def test_the_largest_that_holds() -> None:
    assert largest(lambda number: number * number <= 50, 100) == 7
    assert largest(lambda _: True, 9) == 9
    assert largest(lambda _: False, 9) == 0
