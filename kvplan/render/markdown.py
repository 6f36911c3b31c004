"""GitHub-flavoured Markdown tables."""

from __future__ import annotations

import re

from kvplan.render.plain import inert
from kvplan.report import Report, Table
from kvplan.units import visible

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~&!])")

# What GitHub makes a link, an emoji or a formula of, and linkify a link, even where each sign is
# escaped; as code it stays what it is. Addresses, domains and paths that look like one, users,
# issues, commits.
_LINKED = re.compile(r"[@$]|//|\.[^\W\d_]|#\w|\bGH-\d|\b[0-9a-f]{7,40}\b|:[\w+-]+:", re.IGNORECASE)


def render(report: Report) -> str:
    """The answer, then every table of the report, each under its title."""
    answer = f"{inline(report.answer.text)}\n\n" if report.answer else ""
    return answer + "\n".join(_table(table) for table in report.tables)


def _table(table: Table) -> str:
    titles = [inline(column.title) if table.headed else "" for column in table.columns]
    rules = ["---:" if column.align == "right" else ":---" for column in table.columns]
    lines = [_line(titles), _line(rules)]
    lines += [_line([inline(text) for text in row]) for row in table.rows]
    title = f"**{inline(table.title).strip()}**\n\n" if table.title else ""
    return title + "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def inline(text: str) -> str:
    """The text in a line or a cell of a table: nothing but text, word by word."""
    return " ".join(map(_word, inert(visible(text)).split(" ")))


def _word(word: str) -> str:
    # The cells of a row are told apart before code is, so that a "|" stands outside of it.
    return r"\|".join(map(_piece, word.split("|")))


def _piece(text: str) -> str:
    return _code(text) if _LINKED.search(text) else _SPECIAL.sub(r"\\\1", text)


def _code(text: str) -> str:
    """A code span between more backticks than the text has in a row.

    A blank at each end is dropped again; without, GitHub takes ``$`` beside a backtick for math.
    """
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    blank = " " if text[0] in "`$" or text[-1] in "`$" else ""
    return f"{fence}{blank}{text}{blank}{fence}"
