"""JSON as the public contract has it."""

from __future__ import annotations

import json

from kvplan.report import Report


def render(report: Report) -> str:
    """The whole document, indented, in ASCII: escapes in names stay escapes."""
    return json.dumps(report.document(), indent=2, allow_nan=False) + "\n"
