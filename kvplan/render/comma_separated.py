"""CSV with raw numbers under the JSON contract's keys."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from io import StringIO
from typing import Any

from kvplan.render.plain import inert
from kvplan.report import Report
from kvplan.units import visible

# A spreadsheet runs a cell that begins like this (OWASP, CSV injection), full-width and small forms
# as well, and some drop blanks first. Where the list separator is ";", a new cell begins after one.
_FORMULA = "[=＝﹦+＋﹢\\-－﹣−@＠﹫]"
_BEGINS_A_FORMULA = re.compile(rf"[\s,;|]*{_FORMULA}")
_SEPARATED_FORMULA = re.compile(rf";(?=\s*{_FORMULA})")


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
            row |= {f"{cell(key)}.{inner}": inside for inner, inside in _flat(value).items()}
        else:
            row[cell(key)] = cell(value)
    return row


def cell(value: Any) -> Any:
    """The value as a cell: numbers are themselves, and no text is a formula.

    A quote before what would be one, as spreadsheets themselves write text.
    """
    if isinstance(value, list | tuple):
        value = "; ".join(str(item) for item in value)
    if not isinstance(value, str):
        return value
    text = inert(visible(value))
    quote = "'" if _BEGINS_A_FORMULA.match(text) else ""
    return quote + _SEPARATED_FORMULA.sub(";'", text)
