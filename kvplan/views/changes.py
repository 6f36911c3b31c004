"""What is another one than before, in words."""

from __future__ import annotations

import json
from typing import Any

from kvplan.checks.baseline import Change
from kvplan.report import NO_LIMIT
from kvplan.units import gib, ratio

_SIZES = ("_bytes", "bytes_per_token", "fixed_bytes_per_sequence")
_ONE = "1.00"


def change_in_words(change: Change) -> str:
    """``context 32,768 → 65,536``."""
    given = (_given(value) for value in (change.before, change.after))
    return f"{change.key} {' → '.join(given)}"


def _given(value: Any) -> str:
    return "not given" if value is None else in_words(value)


def in_words(value: Any) -> str:
    """A value as it stands in a file, numbers with thousands separators."""
    if value is None:
        return NO_LIMIT
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list):  # options that are JSON
        return json.dumps(value, sort_keys=True)
    return value if isinstance(value, str) else f"{value:,}"


def figure_in_words(figure: str, value: Any) -> str:
    """A figure for a screen: sizes in GiB."""
    name = figure.partition(" ")[0]
    sized = isinstance(value, int | float) and not isinstance(value, bool)
    return gib(value) if sized and name.endswith(_SIZES) else in_words(value)


def factor_in_words(before: float, after: float) -> str:
    """``× 2.00``; in percent where that would say that nothing changed."""
    factor = ratio(after / before)
    if factor == _ONE:
        return f"{100 * (after - before) / before:+,.2g}%"
    return f"× {factor}"
