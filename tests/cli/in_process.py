"""Commands run in this process: their exit code and what they print."""

from __future__ import annotations

import json
import os
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any
from unittest.mock import patch

from kvplan.cli import main


@dataclass(frozen=True)
class Answer:
    """What a process would have left."""

    code: int | str | None
    stdout: str
    stderr: str


def kvplan(*arguments: str, columns: int = 80) -> Answer:
    """``kvplan`` with these arguments, on a terminal of that width."""
    code: int | str | None = None
    with (
        patch("sys.argv", ["kvplan", *arguments]),
        patch.dict(os.environ, {"COLUMNS": str(columns), "NO_COLOR": "1"}),
        redirect_stdout(StringIO()) as out,
        redirect_stderr(StringIO()) as err,
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code
    return Answer(code, out.getvalue(), err.getvalue())


def answer(*arguments: str) -> dict[str, Any]:
    """The JSON answer of a command that has one."""
    document: dict[str, Any] = json.loads(kvplan(*arguments, "--json").stdout)
    return document
