"""Answers to stdout, everything else to stderr, and the exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import NoReturn

import typer

from kvplan.report import Report


def answer(report: Report, output: str) -> NoReturn:
    """Print the report in this format, and exit with its code."""
    from kvplan.render import render

    text = render(report, output)
    warn(report.warnings)
    complain(*(f"note: {note.text}" for note in report.notes))
    write(text)
    raise typer.Exit(report.exit_code)


def write(text: str) -> None:
    """The text to stdout."""
    if sys.stdout is None:
        raise OSError(0, "stdout is closed")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader went away (`kvplan list | head`); nothing is left to say, or to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def warn(warnings: Iterable[str]) -> None:
    """Each warning on a line of stderr."""
    complain(*(f"warning: {warning}" for warning in warnings))


def complain(*lines: str) -> None:
    """Lines to stderr, with nothing in them that a terminal would obey."""
    from kvplan.render.plain import visible

    for line in lines:
        print(visible(line), file=sys.stderr)
