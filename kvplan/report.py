"""An answer before it is drawn: the JSON payload, tables of text, and what to warn of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Column:
    """A table's column; ``part`` says in which half it stands where a terminal is narrow."""

    title: str
    align: Literal["left", "right"] = "right"
    part: int = 0


@dataclass(frozen=True)
class Table:
    """Rows of text under columns. The first column names the row and is repeated in each part."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    headed: bool = True

    def parts(self) -> tuple[Table, ...]:
        """The same table cut into narrower ones, each with the first column."""
        numbers = sorted({column.part for column in self.columns[1:]})
        return tuple(
            self.only([0, *(i for i, column in enumerate(self.columns) if i and column.part == n)])
            for n in numbers
        )

    def only(self, kept: Sequence[int]) -> Table:
        """The same table with these columns."""
        columns = tuple(self.columns[i] for i in kept)
        rows = tuple(tuple(row[i] for i in kept) for row in self.rows)
        return Table(self.title, columns, rows, self.headed)


@dataclass(frozen=True)
class Report:
    """What a command answers, in a form that every output can be drawn from.

    ``payload`` is the JSON contract's content, ``records`` the rows of the CSV (raw numbers),
    ``tables`` what people read. ``warnings`` and ``notes`` go to stderr and into the JSON.
    """

    command: str
    inputs: Mapping[str, Any]
    payload: Mapping[str, Any]
    records: Sequence[Mapping[str, Any]]
    tables: tuple[Table, ...]
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    exit_code: int = 0

    def document(self) -> dict[str, Any]:
        """The whole JSON document."""
        return {
            "schema_version": SCHEMA_VERSION,
            "command": self.command,
            "inputs": dict(self.inputs),
            "warnings": list(self.warnings),
            "notes": list(self.notes),
            **self.payload,
        }
