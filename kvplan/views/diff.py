"""What ``kvplan diff`` answers."""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import Any

from kvplan.checks.diff import Comparison, Difference
from kvplan.report import NOTHING, Answer, Field, Report, records, table
from kvplan.units import plural
from kvplan.views.beside import name_notes
from kvplan.views.changes import change_in_words, factor_in_words, figure_in_words


def diff_report(comparison: Comparison, one: str, other: str) -> Report:
    """The answer of ``kvplan diff``; deployments and causes are columns of lock files alone."""
    differences = comparison.differences
    rows = records(_FIELDS, differences)
    locks = any(difference.deployment for difference in differences)
    shown = _FIELDS if locks else [field for field in _FIELDS if field.key not in _OF_LOCKS]
    return Report(
        command="diff",
        inputs={"a": one, "b": other},
        payload={"differences": rows},
        records=rows,
        tables=(table("", shown, differences),) if differences else (),
        answer=Answer(_answer(differences, one, other), ""),
        notes=name_notes(comparison.models),
    )


def _answer(differences: Sequence[Difference], one: str, other: str) -> str:
    between = f"{one} → {other}"
    if not differences:
        return f"{between}: no difference."
    count = plural(len(differences), "difference")
    names = {difference.deployment for difference in differences if difference.deployment}
    where = f" in {plural(len(names), 'deployment')}" if names else ""
    main = max(differences, key=_weight)
    factor = f"; {_figure(main)} {_change(main)}" if _factor(main) else ""
    return f"{between}: {count}{where}{factor}."


def _weight(difference: Difference) -> tuple[bool, bool, float]:
    """GPUs count most, then caches, then how far a figure is from what it was, up or down."""
    factor, figure = _factor(difference), difference.figure
    distance = abs(log(factor)) if factor else 0
    return (
        bool(factor) and figure == "gpus",
        bool(factor) and figure.startswith("kv_bytes"),
        distance,
    )


def _factor(difference: Difference) -> float | None:
    before, after = difference.before, difference.after
    if not isinstance(before, int | float) or not isinstance(after, int | float):
        return None
    return after / before if before and after else None


def _change(difference: Difference) -> str:
    known = _factor(difference)
    return factor_in_words(difference.before, difference.after) if known else ""


def _figure(difference: Difference) -> str:
    """The figure's name in words, which a narrow screen folds between."""
    return difference.figure.replace("_", " ")


def _before(difference: Difference) -> str:
    return _shown(difference.figure, difference.before)


def _after(difference: Difference) -> str:
    return _shown(difference.figure, difference.after)


def _shown(figure: str, value: Any) -> str:
    return NOTHING if value is None else figure_in_words(figure, value)


def _cause(difference: Difference) -> str:
    """Keys that changed, where they are known."""
    if difference.changed:
        return ", ".join(map(change_in_words, difference.changed))
    return difference.cause or NOTHING


_OF_LOCKS = ("deployment", "cause")
_FIELDS: tuple[Field[Difference], ...] = (
    Field("deployment", lambda diff: diff.deployment, "Deployment", align="left"),
    Field("figure", lambda diff: diff.figure, "Figure", _figure, "left"),
    Field("before", lambda diff: diff.before, "Before", _before, "left", 2),
    Field("after", lambda diff: diff.after, "After", _after, "left", 1),
    Field("factor", _factor, "Change", _change),
    Field("cause", lambda diff: diff.cause, "Cause", _cause, "left", 3),
)
