"""Answers to stdout, everything else to stderr, and the exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NoReturn, TextIO

import typer

from kvplan.cli.options import Screen
from kvplan.errors import UsageError
from kvplan.render import ALWAYS_UTF_8, help_page, message, render
from kvplan.render.plain import inert
from kvplan.report import Note, Report
from kvplan.units import visible

_USUAL_COLUMNS = 80


def answer(report: Report, output: str, screen: Screen) -> NoReturn:
    """Print the report in this format, then what is to be said of it; exit with its code."""
    write(render(report, output, None if screen.wide else _columns(sys.stdout)), output)
    say(report.warnings, report.notes, screen)
    raise typer.Exit(report.exit_code)


def say(warnings: Iterable[str], notes: Sequence[Note], screen: Screen) -> None:
    """What is to be said of an answer: each warning, and what its figures rest on in one line."""
    if screen.quiet:
        return
    warn(warnings)
    complain(*(f"note: {note.text}" for note in notes if screen.verbose or not note.about))
    routine = dict.fromkeys(note.about for note in notes if note.about)
    if routine and not screen.verbose:
        complain(f"note: --verbose explains: {', '.join(routine)}")


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


def write_help(text: str) -> None:
    """The help to stdout, in colour where that has it; drawing is not loaded where it has not."""
    terminal = sys.stdout is not None and sys.stdout.isatty()
    if not os.environ.get("NO_COLOR") and (terminal or os.environ.get("FORCE_COLOR")):
        text = help_page(text)
    write(f"{text.rstrip()}\n")


def warn(warnings: Iterable[str]) -> None:
    """Each warning on a line of stderr."""
    complain(*(f"warning: {warning}" for warning in warnings))


def complain(*lines: str) -> None:
    """Lines to stderr, with nothing in them that a terminal or a CI runner would obey."""
    width = _columns(sys.stderr)
    coloured = width is not None or os.environ.get("FORCE_COLOR")
    for line in lines:
        text = inert(visible(line))
        tell(f"{message(text, width) if coloured else text}\n")


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


def _columns(stream: TextIO | None) -> int | None:
    """The width of the terminal that the stream is; None where it is none."""
    if stream is None or not stream.isatty():
        return None
    told = os.environ.get("COLUMNS", "")
    if told.isascii() and told.isdigit():
        return int(told)
    try:
        return os.get_terminal_size(stream.fileno()).columns or _USUAL_COLUMNS
    except (OSError, ValueError):
        return _USUAL_COLUMNS


def _drop(stream: TextIO) -> None:
    """Send the rest to nowhere: what is left in the stream would fail again when Python ends."""
    with suppress(Exception):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
