"""What ``kvplan check`` and ``kvplan diff`` answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kvplan.answers.plan import caveats, estimates
from kvplan.answers.words import NOTHING
from kvplan.check import Checked, Finding
from kvplan.difference import Difference
from kvplan.report import Column, Report, Table

_RESULTS = {"passed": "ok", "failed": "FAILED", "error": "ERROR"}
_MODEL_COLUMNS = (
    Column("Figure", "left"),
    Column("Before", "left"),
    Column("After", "left"),
    Column("Change"),
)
_LOCK_COLUMNS = (Column("Deployment", "left"), *_MODEL_COLUMNS, Column("Cause", "left"))


def check_report(checked: Checked, paths: Sequence[Path], baseline: Path | None) -> Report:
    """The answer of ``kvplan check``; the exit code is the worst of all findings."""
    records = [asdict(finding) for finding in checked.findings]
    counted = Counter[str](finding.status for finding in checked.findings)
    summary = {status: counted[status] for status in _RESULTS}
    return Report(
        command="check",
        inputs={
            "files": [str(path) for path in paths],
            "baseline": None if baseline is None else str(baseline),
        },
        payload={"summary": summary, "findings": records},
        records=records,
        tables=(_table(checked.findings, summary),),
        warnings=tuple(
            f"{name}: {caveat}"
            for name, (_, each) in checked.plans.items()
            for caveat in caveats(each)
        ),
        notes=tuple(
            dict.fromkeys(note for _, each in checked.plans.values() for note in estimates(each))
        ),
        exit_code=checked.exit_code,
    )


def _table(findings: Sequence[Finding], summary: dict[str, int]) -> Table:
    columns = ("Deployment", "Check", "Result", "Why")
    rows = tuple(
        (
            finding.deployment or NOTHING,
            finding.check,
            _RESULTS[finding.status],
            _why(finding),
        )
        for finding in findings
    )
    counts = ", ".join(f"{count:,} {status}" for status, count in summary.items() if count)
    plural = "" if len(findings) == 1 else "s"
    title = f"{len(findings):,} check{plural}: {counts}" if findings else "nothing to check"
    return Table(title, tuple(Column(column, "left") for column in columns), rows)


def _why(finding: Finding) -> str:
    if finding.status == "passed":
        return finding.message
    return f"{finding.file}:{finding.line}: {finding.message}"


def diff_report(differences: Sequence[Difference], one: str, other: str) -> Report:
    """The answer of ``kvplan diff``."""
    records: list[dict[str, Any]] = [asdict(each) for each in differences]
    rows = tuple(
        (
            *((each.deployment,) if each.deployment else ()),
            each.figure,
            _value(each.before),
            _value(each.after),
            _change(each),
            *((each.cause,) if each.cause else ()),
        )
        for each in differences
    )
    count = f"{len(differences):,} difference{'' if len(differences) == 1 else 's'}"
    locks = any(each.deployment for each in differences)
    title = f"{one} → {other}: {count}"
    return Report(
        command="diff",
        inputs={"a": one, "b": other},
        payload={"differences": records},
        records=records,
        tables=(Table(title, _LOCK_COLUMNS if locks else _MODEL_COLUMNS, rows),),
    )


def _value(value: Any) -> str:
    if value is None:
        return NOTHING
    return value if isinstance(value, str) else f"{value:,}"


def _change(each: Difference) -> str:
    before, after = each.before, each.after
    if not isinstance(before, int | float) or not isinstance(after, int | float) or not before:
        return ""
    return f"{100 * (after - before) / before:+,.1f}%"
