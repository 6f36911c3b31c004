"""What ``kvplan diff`` answers."""

from __future__ import annotations

from typing import Any

from kvplan.checks.diff import Comparison, Difference
from kvplan.report import NOTHING, Field, Report, records, table
from kvplan.units import plural
from kvplan.views.beside import name_notes


def diff_report(comparison: Comparison, one: str, other: str) -> Report:
    """The answer of ``kvplan diff``; deployments and causes are columns of lock files alone."""
    differences = comparison.differences
    rows = records(_FIELDS, differences)
    locks = any(difference.deployment for difference in differences)
    shown = _FIELDS if locks else [field for field in _FIELDS if field.key not in _OF_LOCKS]
    title = f"{one} → {other}: {plural(len(differences), 'difference')}"
    return Report(
        command="diff",
        inputs={"a": one, "b": other},
        payload={"differences": rows},
        records=rows,
        tables=(table(title, shown, differences),),
        notes=name_notes(comparison.models),
    )


def _shown(value: Any) -> str:
    if value is None:
        return NOTHING
    return value if isinstance(value, str) else f"{value:,}"


def _change(difference: Difference) -> str:
    before, after = difference.before, difference.after
    if not isinstance(before, int | float) or not isinstance(after, int | float) or not before:
        return ""
    return f"{100 * (after - before) / before:+,.1f}%"


_OF_LOCKS = ("deployment", "cause")
_FIELDS: tuple[Field[Difference], ...] = (
    Field(
        "deployment",
        lambda difference: difference.deployment,
        "Deployment",
        lambda difference: _shown(difference.deployment),
        "left",
    ),
    Field("figure", lambda difference: difference.figure, "Figure", align="left"),
    Field("before", lambda diff: diff.before, "Before", lambda diff: _shown(diff.before), "left"),
    Field("after", lambda diff: diff.after, "After", lambda diff: _shown(diff.after), "left"),
    Field("", _change, "Change"),
    Field(
        "cause",
        lambda difference: difference.cause,
        "Cause",
        lambda difference: _shown(difference.cause),
        "left",
    ),
)
