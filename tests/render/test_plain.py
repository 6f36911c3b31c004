"""Lines of a terminal or a log."""

from __future__ import annotations

import unicodedata

from hypothesis import example, given

from kvplan.render.plain import inert
from kvplan.render.terminal import render
from kvplan.units import visible
from tests.render.hostile import report, texts
from tests.render.runner import commands

CONTROL = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


@given(texts())
@example(" ::error::x")
@example("a ###[error]x")
def test_a_line_stays_one_line_and_commands_nobody(name: str) -> None:
    line = inert(visible(name))
    assert line.splitlines() in ([], [line])
    assert not {unicodedata.category(char) for char in line} & CONTROL
    assert commands(line) == []
    assert "##vso[" not in line


@given(texts(), texts())
@example("a" * 40 + " ::error::x", "a" * 31 + "::error::x")
def test_a_table_has_no_line_that_a_terminal_or_a_runner_obeys(one: str, other: str) -> None:
    drawn = render(report(one, other), 40) + render(report(one, other), None)
    assert not {unicodedata.category(char) for char in drawn.replace("\n", "")} & CONTROL
    assert commands(drawn) == []
    assert "##vso[" not in drawn


def test_what_is_not_obeyed_is_still_shown() -> None:
    assert inert(visible("  ::error::a\nb")) == "  \\x3a:error::a\\nb"
    assert inert(visible("x ##[error]\x1b[31m\u202e")) == "x \\x23#[error]\\x1b[31m\\u202e"
    assert inert("a::b #1 ## c [d]") == "a::b #1 ## c [d]"
