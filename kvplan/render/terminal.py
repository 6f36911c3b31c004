"""The answer for people: a sentence, then tables as wide as the terminal and no wider."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from itertools import count
from typing import TextIO

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from kvplan.render.plain import inert
from kvplan.report import NOTHING, Answer, Bar, Report, Table, Tone
from kvplan.units import ceil_div, visible

NARROWEST = 60
"""Columns below which a table would break its numbers; the terminal wraps the lines instead."""

LONGEST_NAME = 32
LONGEST_WORD = 16

_GAP = 2  # blank columns between two of the table
_UNBOUNDED = 1 << 14
_WIDEST_BAR = 60
_MISSING = "!"

_TONES: dict[Tone, str] = {
    "good": "green",
    "tight": "yellow",
    "bad": "bold red",
    "unknown": "magenta",
    "assumed": "italic",
    "faint": "cyan",
}
_KINDS = {"error": "bold red", "warning": "yellow", "note": "dim"}
_WEIGHTS = ("blue", "bright_blue", "cyan", "bright_cyan")  # in turn, as parts of the weights follow
_MARKS = {
    "▆": "bright_magenta",
    "▄": "bright_magenta",
    "▒": "magenta",
    "▓": "green",
    "▚": "bright_green",
    "▞": "yellow",
    "·": "dim",
    _MISSING: "bold red",
}


class _Page(StringIO):
    """What is drawn for a stream, which others write to; rich chooses colours and lines by it."""

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self.stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override] # set by nobody
        return getattr(self.stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        return self.stream is not None and self.stream.isatty()


def _console(page: _Page, width: int) -> Console:
    """Draws on the page; with NO_COLOR neither in colours nor in bold."""
    plain = bool(os.environ.get("NO_COLOR"))
    return Console(file=page, highlight=False, width=width, color_system=None if plain else "auto")


def message(line: str, width: int | None) -> str:
    """The line folded between words, what kind it is (``error:``) in colour."""
    page = _Page(sys.stderr)
    text = Text(line)
    kind, colon, _ = line.partition(":")
    text.stylize(_KINDS.get(kind, ""), 0, len(kind + colon))
    _console(page, width or _UNBOUNDED).print(text)
    return "\n".join(map(str.rstrip, page.getvalue().splitlines()))


_HELP = {
    re.compile(r"^(\w+:)(?=$| kvplan)", re.MULTILINE): "bold yellow",
    re.compile(r"^  (#.*)$", re.MULTILINE): "dim",
    re.compile(r"^  (-.*?)(?=  |$)", re.MULTILINE): "cyan",  # an option and its metavar
    re.compile(r"^  ([a-z]+|[A-Z.]+)(?=  +\S)", re.MULTILINE): "cyan",  # a command, an argument
    re.compile(r"^  (kvplan .*)$", re.MULTILINE): "green",
}
"""What of a help is drawn how."""


def help_page(text: str) -> str:
    """The help with its titles, names and examples in colour where the terminal has it."""
    page, drawn = _Page(sys.stdout), Text(text)
    for pattern, style in _HELP.items():
        for match in pattern.finditer(text):
            drawn.stylize(style, *match.span(1))
    _console(page, _UNBOUNDED).print(drawn)
    return page.getvalue()


def render(report: Report, width: int | None) -> str:
    """The answer and its tables for a terminal so wide, in colour where that has it.

    Without a width (a pipe, a file) nothing is folded or left out: one line a row.
    """
    page = _Page(sys.stdout)
    console = _console(page, _UNBOUNDED if width is None else max(width, NARROWEST))
    if report.answer:
        _print_answer(console, report.answer)
    tables = [table for table in report.tables if table.headed or table.rows]
    for index, table in enumerate(tables):
        if index or report.answer:
            console.print()
        _print(console, table, whole=width is None)
    return "".join(f"{inert(line.rstrip())}\n" for line in page.getvalue().splitlines())


def _print_answer(console: Console, answer: Answer) -> None:
    console.print(Text(visible(answer.text), style=_TONES.get(answer.tone, "")))
    if answer.advice:
        console.print(Text(visible(answer.advice)))


def _print(console: Console, table: Table, *, whole: bool) -> None:
    if table.title:
        console.print(Text(visible(table.title), style="bold"))
    if table.bar:
        console.print(_bar(table.bar, min(console.width - 2, _WIDEST_BAR)))
    shown, hints = table, []
    if not whole:
        shown, left_out = _fitting(table, console.width)
        them = "them" if len(left_out) > 1 else "it"
        hints = [f"not shown: {', '.join(left_out)} (--wide shows {them})"] if left_out else []
        if table.most is not None and len(table.rows) > table.most:
            shown = _only_first(shown, table.most)
            hints += [f"and {len(table.rows) - table.most:,} more rows (--wide shows them)"]
    console.print(_rich(shown, console.width))
    for hint in hints:
        console.print(Text(f" {hint}", style="dim"))


def _only_first(table: Table, most: int) -> Table:
    return replace(table, rows=table.rows[:most], tones=table.tones[:most])


def _fitting(table: Table, width: int) -> tuple[Table, list[str]]:
    """The table with the columns that there is room for, and the titles of the others.

    Those that say nothing go first, without being named, then those of the highest rank; and
    those that yield as long as there is text that would be folded.
    """
    kept = list(range(len(table.columns)))
    left_out: list[int] = []
    while (now := _with_columns(table, kept)) and _unfolded(now) > width:
        breaks = _narrowest(now) > width
        columns = [table.columns[index] for index in kept]
        spare = [
            index
            for index, column in zip(kept, columns, strict=True)
            if column.rank and (breaks or column.yields)
        ]
        if not spare:
            break
        goes = max(spare, key=lambda i: (_is_blank(table, i), table.columns[i].rank, i))
        kept.remove(goes)
        left_out += [] if _is_blank(table, goes) else [goes]
    titles = [visible(table.columns[index].title) for index in sorted(left_out)]
    return _with_columns(table, kept), titles


def _is_blank(table: Table, index: int) -> bool:
    return all(row[index] in ("", NOTHING) for row in table.rows)


def _with_columns(table: Table, kept: Sequence[int]) -> Table:
    return replace(
        table,
        columns=tuple(table.columns[i] for i in kept),
        rows=tuple(tuple(row[i] for i in kept) for row in table.rows),
        tones=tuple(tuple(tones[i] for i in kept) for tones in table.tones),
    )


def _narrowest(table: Table) -> int:
    """Columns of terminal that the table needs without breaking a number or a word."""
    return 1 + sum(_least(table, index) + _GAP for index in range(len(table.columns)))


def _unfolded(table: Table) -> int:
    """Columns of terminal in which every row is one line."""
    widest = (max(map(cell_len, _cells(table, i)), default=1) for i in range(len(table.columns)))
    return 1 + sum(width + _GAP for width in widest)


def _least(table: Table, index: int) -> int:
    """Width of a column that breaks no number and no word; long names and words are folded."""
    cells, column = _cells(table, index), table.columns[index]
    if column.align == "right" or column.rank:  # rather left out than folded
        return max(map(cell_len, cells), default=1)
    if index:
        cells = [word for cell in cells for word in cell.split()]
    widest = max(map(cell_len, cells), default=1)
    return min(widest, LONGEST_WORD if index else LONGEST_NAME)


def _cells(table: Table, index: int) -> list[str]:
    title = [table.columns[index].title] if table.headed else []
    mark = "  " if table.bar and not index else ""
    return [*title, *(f"{mark}{visible(row[index])}" for row in table.rows)]


def _widths(table: Table, width: int) -> list[int]:
    """Every column at its least, and what is left over given to text, from the left."""
    least = [_least(table, index) for index in range(len(table.columns))]
    left_over = max(0, width - _narrowest(table))
    for index in range(len(least)):
        wanted = max(map(cell_len, _cells(table, index)), default=1) - least[index]
        extra = min(wanted, left_over)
        least[index] += extra
        left_over -= extra
    return least


def _rich(table: Table, width: int) -> RichTable:
    style = box.SIMPLE_HEAD if table.headed else None
    gap = _GAP - 1 if table.headed else _GAP  # the box draws one column itself
    drawn = RichTable(
        box=style,
        show_header=table.headed,
        show_edge=False,
        pad_edge=False,
        header_style="bold",
        padding=(0, gap, 0, 0),
    )
    for index, (column, room) in enumerate(zip(table.columns, _widths(table, width), strict=True)):
        drawn.add_column(
            Text(visible(column.title)),
            justify=column.align,
            style="" if index or not table.headed else "bold",
            overflow="fold",
            width=room,
        )
    marks = _legend(table.bar) if table.bar else []
    for number, row in enumerate(table.rows):
        tones = table.tones[number] if table.tones else ()
        cells = [
            Text(visible(cell), style=_TONES.get(tones[index], "") if tones else "")
            for index, cell in enumerate(row)
        ]
        if marks:
            cells[0] = Text.assemble(marks[number] if number < len(marks) else "  ", cells[0])
        drawn.add_row(*cells)
    return drawn


def _legend(bar: Bar) -> list[Text]:
    """The mark of each share, before the row of that share."""
    styles = _styles(bar)
    return [Text(f"{share.mark} ", style=styles[i]) for i, share in enumerate(bar.shares)]


def _styles(bar: Bar) -> list[str]:
    turn = count()
    return [
        _MARKS.get(share.mark) or _WEIGHTS[next(turn) % len(_WEIGHTS)] if share.mark != " " else ""
        for share in bar.shares
    ]


def _bar(bar: Bar, width: int) -> Text:
    """Each size as its share of the width, between brackets as wide as the whole of it."""
    total = max(bar.whole_bytes, sum(share.size_bytes for share in bar.shares), 1)
    end = max(1, _cells_of(bar.whole_bytes, total, width))
    drawn, covered = Text("["), 0
    filled = 0
    for share, style in zip(bar.shares, _styles(bar), strict=True):
        covered += share.size_bytes
        upto = min(end, _cells_of(covered, total, width))
        drawn.append(share.mark * max(0, upto - filled), style)
        filled = max(filled, upto)
    drawn.append(" " * (end - filled)).append("]")
    return drawn.append(_MISSING * (width - end), _MARKS[_MISSING])


def _cells_of(size_bytes: int, total_bytes: int, width: int) -> int:
    """Cells of a bar of that width, rounded to the nearest."""
    return ceil_div(2 * width * size_bytes - total_bytes, 2 * total_bytes)
