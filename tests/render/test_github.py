"""Workflow commands, read back as the runner does."""

from __future__ import annotations

from hypothesis import example, given

from kvplan.render.github import render
from kvplan.units import visible
from tests.render.hostile import report, texts
from tests.render.runner import commands, lines


def shown(text: str) -> str:
    """The text with line ends as they are, and everything else unprintable as its escape."""
    return "".join(char if char in "\r\n" else visible(char) for char in text)


@given(texts(), texts())
@example("%250A", "a,b:c::d\r\n::error::e")
@example("##[error]x", " ")
def test_an_annotation_a_finding_and_nothing_else(one: str, other: str) -> None:
    text = render(report(one, other))
    assert lines(text)[-1] == ""
    assert len(lines(text)) == 3
    for command, name in zip(commands(text), (one, other), strict=True):
        title = " ".join(part for part in ("kvplan", name, name) if part)
        assert command.name == "error"
        assert command.properties["line"] == "3"
        assert command.properties["title"] == shown(title).rstrip(" ")  # the runner trims it
        assert command.properties["file"] == shown(name or "f.yaml")
        assert command.data == shown(name)


def test_where_all_pass_there_is_a_notice() -> None:
    passed = report("a")
    record = {**passed.records[0], "status": "passed"}
    text = render(type(passed)("check", {}, {}, [record] * 1_024, ()))
    (command,) = commands(text)
    assert (command.name, command.data) == ("notice", "all 1,024 checks passed")
