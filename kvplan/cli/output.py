"""Answers to stdout, everything else to stderr, and the exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import NoReturn, TextIO

import typer

from kvplan.errors import UsageError
from kvplan.render import ALWAYS_UTF_8, render
from kvplan.render.plain import inert, visible
from kvplan.report import Report


def answer(report: Report, output: str) -> NoReturn:
    """Print the report in this format, and exit with its code."""
    text = render(report, output)
    warn(report.warnings)
    complain(*(f"note: {note}" for note in report.notes))
    write(text, output)
    raise typer.Exit(report.exit_code)


def write(text: str, output: str = "table") -> None:
    """The text in this format to stdout. Raises UsageError where it cannot be written."""
    if sys.stdout is None:
        raise UsageError("the answer cannot be written: stdout is closed")
    try:
        _put(sys.stdout, text, utf_8=output in ALWAYS_UTF_8)
    except BrokenPipeError:
        # The reader has read enough (`kvplan list | head`); that changes nothing in the answer.
        _drop(sys.stdout)
    except (OSError, ValueError) as error:
        _drop(sys.stdout)
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"the answer cannot be written: {reason}") from None


def warn(warnings: Iterable[str]) -> None:
    """Each warning on a line of stderr."""
    complain(*(f"warning: {warning}" for warning in warnings))


def complain(*lines: str) -> None:
    """Lines to stderr, with nothing in them that a terminal or a CI runner would obey."""
    tell("".join(f"{inert(visible(line))}\n" for line in lines))


def tell(text: str) -> None:
    """The text to stderr as it is; where that is closed or full, it is lost, and nothing else."""
    if sys.stderr is None:
        return
    try:
        _put(sys.stderr, text)
    except Exception:  # noqa: BLE001 - whatever the stream raises, the exit code is the answer's
        _drop(sys.stderr)


def _put(stream: TextIO, text: str, *, utf_8: bool = False) -> None:
    binary = getattr(stream, "buffer", None)
    if utf_8 and binary is not None:
        binary.write(text.encode())
    else:
        stream.write(text)
    stream.flush()


def _drop(stream: TextIO) -> None:
    """Send the rest to nowhere: what is left in the stream would fail again when Python ends."""
    with suppress(Exception):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
