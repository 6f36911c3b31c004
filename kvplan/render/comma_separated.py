"""CSV with raw numbers under the JSON contract's keys."""

from __future__ import annotations

import csv
from io import StringIO
from typing import Any

from kvplan.render.plain import visible
from kvplan.report import Report

# A spreadsheet runs a cell that begins like this (OWASP, CSV injection) unless a quote comes first.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def render(report: Report) -> str:
    """One line a record, the keys of the first as the header."""
    text = StringIO()
    first = report.records[0] if report.records else {}
    keys = [key for key, value in first.items() if not isinstance(value, dict)]
    writer = csv.DictWriter(text, keys, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for record in report.records:
        writer.writerow({key: _cell(record[key]) for key in keys})
    return text.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, list | tuple):
        value = "; ".join(str(item) for item in value)
    if not isinstance(value, str):
        return value
    return f"'{visible(value)}" if value.startswith(_FORMULA_STARTS) else visible(value)
