"""GitHub-flavoured Markdown tables."""

from __future__ import annotations

import re

from kvplan.render.plain import visible
from kvplan.report import Report, Table

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&!@$])")


def render(report: Report) -> str:
    """Every table of the report, each under its title."""
    return "\n".join(_table(table) for table in report.tables)


def _table(table: Table) -> str:
    titles = [_cell(column.title) if table.headed else "" for column in table.columns]
    rules = ["---:" if column.align == "right" else ":---" for column in table.columns]
    lines = [_line(titles), _line(rules)]
    lines += [_line([_cell(cell) for cell in row]) for row in table.rows]
    title = f"**{_cell(table.title)}**\n\n" if table.title else ""
    return title + "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", visible(text))
