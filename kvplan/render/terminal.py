"""Tables for people, as wide as the terminal and no wider."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from kvplan.render.plain import visible
from kvplan.report import Report, Table


def render(report: Report) -> str:
    """The report's tables as text for a terminal, in colour where the terminal has it."""
    console = Console(highlight=False)
    with console.capture() as captured:
        for index, table in enumerate(report.tables):
            if index:
                console.print()
            _print(console, table)
    return captured.get()


def _print(console: Console, table: Table) -> None:
    if table.title:
        console.print(Text(visible(table.title), style="bold"))
    unlimited = console.options.update(width=10_000)
    whole = _rich(table)
    parts = table.parts()
    if len(parts) > 1 and Measurement.get(console, unlimited, whole).maximum > console.width:
        for part in parts:
            console.print(_rich(part))
    else:
        console.print(whole)


def _rich(table: Table) -> RichTable:
    style = box.SIMPLE_HEAD if table.headed else None
    drawn = RichTable(
        box=style, show_header=table.headed, pad_edge=False, header_style="bold", padding=(0, 1)
    )
    for index, column in enumerate(table.columns):
        drawn.add_column(
            Text(visible(column.title)),
            justify=column.align,
            style="cyan" if index == 0 else "",
            overflow="fold",
        )
    for row in table.rows:
        drawn.add_row(*(Text(visible(cell)) for cell in row))
    return drawn
