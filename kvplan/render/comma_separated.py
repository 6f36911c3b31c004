"""CSV with raw numbers under the JSON contract's keys."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from io import StringIO
from typing import Any

from kvplan.render.plain import visible
from kvplan.report import Report

# A spreadsheet runs a cell that begins like this (OWASP, CSV injection) unless a quote comes first.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def render(report: Report) -> str:
    """One line a record under the keys of all; what a record does not have is empty."""
    text = StringIO()
    rows = [_flat(record) for record in report.records]
    keys = dict.fromkeys(key for row in rows for key in row)
    writer = csv.DictWriter(text, list(keys), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """One level of keys: what lies in an object is named ``object.key``."""
    row: dict[str, Any] = {}
    for key, value in record.items():
        if isinstance(value, Mapping):
            row |= {f"{key}.{inner}": cell for inner, cell in _flat(value).items()}
        else:
            row[key] = _cell(value)
    return row


def _cell(value: Any) -> Any:
    if isinstance(value, list | tuple):
        value = "; ".join(str(item) for item in value)
    if not isinstance(value, str):
        return value
    return f"'{visible(value)}" if value.startswith(_FORMULA_STARTS) else visible(value)
