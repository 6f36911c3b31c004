"""CSV, read back as files with "," and as a spreadsheet reads them whose list separator is ";"."""

from __future__ import annotations

import csv
from io import StringIO
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kvplan.render.comma_separated import render
from kvplan.report import Report
from tests.render.hostile import texts
from tests.render.runner import commands

# OWASP, CSV injection: = + - @ tab CR, and their full-width forms; spreadsheets drop blanks first.
FORMULA = tuple("=+-@\t\r＝＋－＠")


def drawn(*records: dict[str, Any]) -> str:
    return render(Report("check", {}, {}, records, ()))


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@given(texts(), texts())
@example(";=1+1", "; =1")
@example(" \t＝1", ", ,@SUM(A1)")
@example("::error::x", "a ##[error]x")
@example("", ",;")
def test_no_name_is_a_formula_or_makes_a_cell_of_its_own(one: str, other: str) -> None:
    record = {"name": one, "names": [other, one], "nested": {other: one}, "n": -5}
    text = drawn(record, record)
    rows = list(csv.reader(StringIO(text), strict=True))
    assert [len(row) for row in rows] == [4, 4, 4]
    cells = [cell for row in rows for cell in row]
    assert all(char.isprintable() for cell in cells for char in cell)
    cells += [cell for row in csv.reader(StringIO(text), delimiter=";") for cell in row]
    for cell in cells:
        start = cell.lstrip()
        assert not start.startswith(FORMULA) or is_number(start.split(",")[0]), cell
    assert commands(text) == []


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_itself(number: float) -> None:
    _, (cell,) = csv.reader(StringIO(drawn({"bytes": number})))
    assert cell == str(number)


@pytest.mark.parametrize("name", ["=1", "+1", "-1", "@a", "＝1", " =1", ";=1", ", +1", "﹦1", "−1"])
def test_what_begins_a_formula_has_a_quote_first(name: str) -> None:
    _, (cell,) = csv.reader(StringIO(drawn({"name": name})))
    assert cell.startswith("'")
    assert cell.replace("'", "") == name


@pytest.mark.parametrize("name", ["a-b", "1 - 1", "a=b", "x, y; z", "user@host", "llama3-70b"])
def test_other_text_is_itself(name: str) -> None:
    _, (cell,) = csv.reader(StringIO(drawn({"name": name})))
    assert cell == name
