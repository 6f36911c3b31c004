"""Commands run in this process: a process is started only where one is what is tested."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any
from unittest.mock import patch

from kvplan.cli.app import main


@dataclass(frozen=True)
class Result:
    """What a command printed, and its exit code."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        """The JSON that was printed."""
        return json.loads(self.stdout)


Run = Callable[..., Result]
"""Runs ``kvplan ARGUMENTS``, as the fixture ``run`` does in a folder of its own."""


class Terminal(StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Always."""
        return True


def kvplan(*arguments: str, columns: int | None = None, coloured: bool = False) -> Result:
    """``kvplan`` with these arguments, piped or on a terminal of that width, which may be coloured.

    Where the terminal has no colours, bold and dim are still told by their codes.
    """
    stream = StringIO if columns is None else Terminal
    colours = {"FORCE_COLOR": "1", "TERM": "xterm-256color"} if coloured else {"NO_COLOR": "1"}
    with (
        patch("sys.argv", ["kvplan", *arguments]),
        patch.dict(os.environ, {"COLUMNS": str(columns or 80), **colours}),
        redirect_stdout(stream()) as out,
        redirect_stderr(stream()) as err,
    ):
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return Result(code, out.getvalue(), err.getvalue())


def answer(*arguments: str) -> dict[str, Any]:
    """The JSON answer of a command that has one."""
    document: dict[str, Any] = kvplan(*arguments, "--json").document
    return document


def cells(text: str) -> list[list[str]]:
    """A printed table line by line, without what a terminal library draws between its cells."""
    lines = (line.strip() for line in text.splitlines())
    return [line.split() for line in lines if line and set(line) != {"─"}]
