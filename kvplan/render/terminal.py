"""Tables for people, as wide as the terminal and no wider."""

from __future__ import annotations

from io import StringIO

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from kvplan.render.plain import visible
from kvplan.report import Report, Table


def render(report: Report) -> str:
    """The report's tables as text for a terminal, in colour where the terminal has it."""
    screen = Console()
    console = Console(
        file=StringIO(),
        width=screen.width,
        force_terminal=screen.is_terminal,
        color_system=screen.color_system,  # type: ignore[arg-type]
        no_color=screen.no_color,
        legacy_windows=False,
    )
    with console.capture() as captured:
        for index, table in enumerate(report.tables):
            if index:
                console.print()
            _print(console, table)
    return captured.get()


def _print(console: Console, table: Table) -> None:
    if table.title:
        console.print(Text(visible(table.title), style="bold"), soft_wrap=False)
    whole = _rich(table)
    too_wide = Measurement.get(console, console.options, whole).maximum >= console.width
    if too_wide and len(table.parts()) > 1 and _needs(console, table) > console.width:
        for part in table.parts():
            console.print(_rich(part))
    else:
        console.print(whole)


def _needs(console: Console, table: Table) -> int:
    unlimited = console.options.update(width=10_000)
    return Measurement.get(console, unlimited, _rich(table)).maximum


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
