"""JSON as the public contract has it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from kvplan.report import Report


def render(report: Report) -> str:
    """The whole document, indented, in ASCII."""
    text = json.dumps(valid(report.document()), indent=2, allow_nan=False)
    # A CI runner obeys "##[" wherever a line has it (see plain.inert); JSON can write it otherwise.
    return re.sub("#(?=#)", r"\\u0023", text) + "\n"


def valid(value: Any) -> Any:
    """The value with half a surrogate pair, which no JSON text may hold, as its escape.

    Such halves come from file names that are not UTF-8 (RFC 8259, section 8.2).
    """
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return {valid(key): valid(inner) for key, inner in value.items()}
    return [valid(inner) for inner in value] if isinstance(value, list | tuple) else value
