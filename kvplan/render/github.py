"""GitHub Actions: workflow commands that annotate files, and the job summary.

The escapes are those of actions/toolkit, ``packages/core/src/command.ts``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kvplan.render import markdown
from kvplan.render.plain import visible
from kvplan.report import Report

_ESCAPES = {"%": "%25", "\r": "%0D", "\n": "%0A"}
_PROPERTY_ESCAPES = {**_ESCAPES, ":": "%3A", ",": "%2C"}


def render(report: Report) -> str:
    """One ``::error`` a finding that is not passed; a notice where all are."""
    lines = [_command(record) for record in report.records if record["status"] != "passed"]
    passed = f"::notice title=kvplan::all {len(report.records):,} checks passed"
    return "".join(f"{line}\n" for line in lines or [passed])


def summary(report: Report) -> str:
    """The report as the Markdown of a job summary."""
    return f"### kvplan check\n\n{markdown.render(report)}\n"


def _command(record: Mapping[str, Any]) -> str:
    title = " ".join(part for part in ("kvplan", record["deployment"], record["check"]) if part)
    properties = {"file": record["file"], "line": str(record["line"]), "title": title}
    told = ",".join(
        f"{name}={_escaped(value, _PROPERTY_ESCAPES)}" for name, value in properties.items()
    )
    return f"::error {told}::{_escaped(record['message'], _ESCAPES)}"


def _escaped(text: str, escapes: Mapping[str, str]) -> str:
    """Line ends survive as escapes; other control characters are shown."""
    pieces = re.split(r"([\r\n])", text)
    shown = (piece if piece in ("\r", "\n") else visible(piece) for piece in pieces)
    return "".join(escapes.get(char, char) for piece in shown for char in piece)
