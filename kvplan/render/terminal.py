"""Tables for people, as wide as the terminal and no wider."""

from __future__ import annotations

import sys
from io import StringIO

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from kvplan.render.plain import inert, visible
from kvplan.report import Report, Table
from kvplan.units import ceil_div

NARROWEST = 60
"""Columns below which a table would break its numbers; the terminal wraps the lines instead."""

LONGEST_NAME = 32
LONGEST_WORD = 16

_GAP = 2  # blank columns between two of the table


class _Page(StringIO):
    """What is drawn for stdout, which others write to; rich chooses colours and lines by these."""

    @property
    def encoding(self) -> str:  # type: ignore[override] # set by nobody
        return getattr(sys.stdout, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        return sys.stdout is not None and sys.stdout.isatty()


def render(report: Report) -> str:
    """The report's tables as text for a terminal, in colour where the terminal has it."""
    drawn = _Page()
    console = Console(file=drawn, highlight=False)
    console.width = max(console.width, NARROWEST)
    for index, table in enumerate(report.tables):
        if index:
            console.print()
        _print(console, table)
    return "".join(f"{inert(line.rstrip())}\n" for line in drawn.getvalue().splitlines())


def _print(console: Console, table: Table) -> None:
    if table.title:
        console.print(Text(visible(table.title), style="bold"))
    for part in _fitting(table, console.width):
        console.print(_rich(part, console.width))


def _fitting(table: Table, width: int) -> list[Table]:
    """The table, or its parts, or those cut further: whatever shows every number whole."""
    if _narrowest(table) <= width:
        return [table]
    return [piece for part in table.parts() for piece in _cut(part, width)]


def _cut(table: Table, width: int) -> list[Table]:
    """As few pieces as show every number whole, with about as many columns each."""
    columns = range(1, len(table.columns))
    for size in range(len(columns), 1, -1):
        count = ceil_div(len(columns), size)
        evenly = ceil_div(len(columns), count)
        pieces = [
            table.only([0, *columns[start : start + evenly]])
            for start in range(0, len(columns), evenly)
        ]
        if all(_narrowest(piece) <= width for piece in pieces):
            return pieces
    return [table.only([0, index]) for index in columns]


def _narrowest(table: Table) -> int:
    """Columns of terminal that the table needs without breaking a number or a word."""
    return 1 + sum(_least(table, index) + _GAP for index in range(len(table.columns)))


def _least(table: Table, index: int) -> int:
    """Width of a column that breaks no number and no word; long names and words are folded."""
    cells = _cells(table, index)
    if index and table.columns[index].align == "left":
        cells = [word for cell in cells for word in cell.split()]
    widest = max(map(len, cells), default=1)
    if table.columns[index].align == "right":
        return widest
    return min(widest, LONGEST_WORD if index else LONGEST_NAME)


def _cells(table: Table, index: int) -> list[str]:
    title = [table.columns[index].title] if table.headed else []
    return [*title, *(visible(row[index]) for row in table.rows)]


def _widths(table: Table, width: int) -> list[int]:
    """Every column at its least, and what is left over given to text, from the left."""
    least = [_least(table, index) for index in range(len(table.columns))]
    left_over = max(0, width - _narrowest(table))
    for index in range(len(least)):
        wanted = max(map(len, _cells(table, index)), default=1) - least[index]
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
        pad_edge=False,
        header_style="bold",
        padding=(0, gap, 0, 0),
    )
    for index, (column, room) in enumerate(zip(table.columns, _widths(table, width), strict=True)):
        drawn.add_column(
            Text(visible(column.title)),
            justify=column.align,
            style="cyan" if index == 0 else "",
            overflow="fold",
            width=room,
        )
    for row in table.rows:
        drawn.add_row(*(Text(visible(cell)) for cell in row))
    return drawn
