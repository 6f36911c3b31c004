"""Searches and conversions of whole numbers."""

from __future__ import annotations

import pytest

from kvplan.errors import UsageError
from kvplan.units import largest, parse_bytes


def test_the_largest_that_holds() -> None:
    assert largest(lambda number: number * number <= 50, 100) == 7
    assert largest(lambda _: True, 9) == 9
    assert largest(lambda _: False, 9) == 0


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("3GiB", 3 * 2**30), ("80GB", 80 * 10**9), ("3221225472", 3 * 2**30), ("0", 0), ("3B", 3)],
)
def test_bytes_as_they_are_written(text: str, size_bytes: int) -> None:
    assert parse_bytes(text) == size_bytes


def test_a_forgotten_unit_is_no_silent_guess() -> None:
    with pytest.raises(UsageError, match="3 bytes") as raised:
        parse_bytes("3")
    assert raised.value.hint == "write 3GiB"
