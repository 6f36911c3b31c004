"""An answer before it is drawn: the JSON payload, tables of text, and what to warn of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

SCHEMA_VERSION = 1
NOTHING = "–"

Align = Literal["left", "right"]
Row = TypeVar("Row")


@dataclass(frozen=True)
class Column:
    """A table's column; ``part`` says in which half it stands where a terminal is narrow."""

    title: str
    align: Align = "right"
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
class Field(Generic[Row]):
    """One column of a view, said once for every output.

    ``key`` and ``value`` are for JSON and CSV (no key: not there), ``title`` and ``show`` for
    people (no title: not there). Numbers are shown with thousands separators where ``show`` says
    nothing else, None as a dash.
    """

    key: str
    value: Callable[[Row], Any]
    title: str = ""
    show: Callable[[Row], str] | None = None
    align: Align = "right"
    part: int = 0

    def text(self, row: Row) -> str:
        """The cell as people read it."""
        if self.show is not None:
            return self.show(row)
        value = self.value(row)
        if value is None:
            return NOTHING
        return value if isinstance(value, str) else f"{value:,}"


def records(fields: Sequence[Field[Row]], rows: Iterable[Row]) -> list[dict[str, Any]]:
    """The rows under the fields' keys, with raw values."""
    keyed = [field for field in fields if field.key]
    return [{field.key: field.value(row) for field in keyed} for row in rows]


def table(title: str, fields: Sequence[Field[Row]], rows: Iterable[Row]) -> Table:
    """The rows under the fields' titles."""
    titled = [field for field in fields if field.title]
    columns = tuple(Column(field.title, field.align, field.part) for field in titled)
    return Table(title, columns, tuple(tuple(f.text(row) for f in titled) for row in rows))


def facts(title: str, fields: Sequence[Field[Row]], row: Row) -> Table:
    """One row's titled fields below one another; those without text are left out."""
    columns = (Column("Fact", "left"), Column("Value", "left"))
    titled = ((field.title, field.text(row)) for field in fields if field.title)
    return Table(title, columns, tuple(fact for fact in titled if fact[1]), headed=False)


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
    notes: tuple[str, ...] = ()
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
