"""GitHub Actions: workflow commands that annotate files, and the job summary.

The escapes are those of actions/toolkit, ``packages/core/src/command.ts``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kvplan.render import markdown
from kvplan.report import Report
from kvplan.units import visible

_DATA = {"%": "%25", "\r": "%0D", "\n": "%0A"}
_PROPERTY = {**_DATA, ":": "%3A", ",": "%2C"}


def render(report: Report) -> str:
    """One ``::error`` a finding that is not passed, errors first; a notice where all are."""
    told = [record for record in report.records if record["status"] != "passed"]
    told.sort(key=lambda record: record["status"] != "error")  # a step shows its first ten
    lines = [_annotation(record) for record in told]
    count = len(report.records)
    all_of_them = "the one check" if count == 1 else f"all {count:,} checks"
    passed = command("notice", {"title": "kvplan"}, f"{all_of_them} passed")
    return "".join(f"{line}\n" for line in lines or [passed])


def summary(report: Report) -> str:
    """The report as the Markdown of a job summary."""
    return f"### kvplan check\n\n{markdown.render(report)}\n"


def command(name: str, properties: Mapping[str, str], message: str) -> str:
    """The workflow command on one line, with nothing in it that ends it or a property early."""
    told = ",".join(f"{key}={_escaped(value, _PROPERTY)}" for key, value in properties.items())
    return f"::{name} {told}::{_escaped(message, _DATA)}"


def _annotation(record: Mapping[str, Any]) -> str:
    title = " ".join(part for part in ("kvplan", record["deployment"], record["check"]) if part)
    properties = {"file": record["file"], "line": str(record["line"]), "title": title}
    return command("error", properties, record["message"])


def _escaped(text: str, escapes: Mapping[str, str]) -> str:
    """Line ends survive as escapes; other control characters are shown."""
    return "".join(escapes.get(char) or visible(char) for char in text)
