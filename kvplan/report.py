"""An answer before it is drawn: a sentence, tables of text, the JSON payload, what to warn of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

SCHEMA_VERSION = 1

NOTHING = "–"
"""What a row does not have."""
UNKNOWN = "?"
"""What nobody has said."""
NO_LIMIT = "no limit"
"""Where memory sets no bound."""

Align = Literal["left", "right"]
Tone = Literal["", "good", "tight", "bad", "unknown", "assumed", "faint"]
"""What a colour means: it fits, barely, not; not known; an estimate; of less weight."""
Row = TypeVar("Row")


@dataclass(frozen=True)
class Column:
    """A table's column; where a terminal is narrow, the one with the greatest ``rank`` goes first.

    Rank 0 is never left out. One that ``yields`` goes before any text would be folded.
    """

    title: str
    align: Align = "right"
    rank: int = 0
    yields: bool = False


@dataclass(frozen=True)
class Share:
    """One part of a bar: the mark it is drawn with, and its size."""

    mark: str
    size_bytes: int


@dataclass(frozen=True)
class Bar:
    """Sizes drawn in proportion. What they take beyond ``whole_bytes`` stands after its end."""

    shares: tuple[Share, ...]
    whole_bytes: int


@dataclass(frozen=True)
class Table:
    """Rows of text under columns; the first column names the row.

    ``tones`` are the cells' (none: all plain). ``bar`` is drawn above. Of more than ``most`` rows
    a terminal shows so many, and says how many there are.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    headed: bool = True
    tones: tuple[tuple[Tone, ...], ...] = ()
    bar: Bar | None = None
    most: int | None = None


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
    rank: int = 0
    tone: Callable[[Row], Tone] | None = None
    yields: bool = False

    def text(self, row: Row) -> str:
        """The cell as people read it."""
        if self.show is not None:
            return self.show(row)
        value = self.value(row)
        if value is None:
            return NOTHING
        return value if isinstance(value, str) else f"{value:,}"

    def tone_of(self, row: Row) -> Tone:
        """What the cell's colour says."""
        return self.tone(row) if self.tone else ""


def records(fields: Sequence[Field[Row]], rows: Iterable[Row]) -> list[dict[str, Any]]:
    """The rows under the fields' keys, with raw values."""
    keyed = [field for field in fields if field.key]
    return [{field.key: field.value(row) for field in keyed} for row in rows]


def table(
    title: str, fields: Sequence[Field[Row]], rows: Sequence[Row], most: int | None = None
) -> Table:
    """The rows under the fields' titles."""
    titled = [field for field in fields if field.title]
    return Table(
        title,
        tuple(Column(field.title, field.align, field.rank, field.yields) for field in titled),
        tuple(tuple(field.text(row) for field in titled) for row in rows),
        tones=tuple(tuple(field.tone_of(row) for field in titled) for row in rows),
        most=most,
    )


def facts(title: str, fields: Sequence[Field[Row]], row: Row) -> Table:
    """One row's titled fields below one another; those without text are left out."""
    said = [field for field in fields if field.title and field.text(row)]
    return Table(
        title,
        (Column("Fact", "left"), Column("Value", "left")),
        tuple((field.title, field.text(row)) for field in said),
        headed=False,
        tones=tuple(("faint", field.tone_of(row)) for field in said),
    )


@dataclass(frozen=True)
class Answer:
    """The answer in a sentence, what its colour means, and what to do where it is bad news."""

    text: str
    tone: Tone = "good"
    advice: str = ""


@dataclass(frozen=True)
class Note:
    """What figures rest on: the subject in a word or two where it is routine, and the whole."""

    about: str
    text: str


@dataclass(frozen=True)
class Report:
    """What a command answers, in a form that every output can be drawn from.

    ``payload`` is the JSON contract's content, ``records`` the rows of the CSV (raw numbers),
    ``answer`` and ``tables`` what people read. ``warnings`` and ``notes`` go to stderr and into
    the JSON.
    """

    command: str
    inputs: Mapping[str, Any]
    payload: Mapping[str, Any]
    records: Sequence[Mapping[str, Any]]
    tables: tuple[Table, ...]
    answer: Answer | None = None
    warnings: tuple[str, ...] = ()
    notes: tuple[Note, ...] = ()
    exit_code: int = 0

    def document(self) -> dict[str, Any]:
        """The whole JSON document."""
        said = {"answer": self.answer.text} if self.answer else {}
        return {
            "schema_version": SCHEMA_VERSION,
            "command": self.command,
            "inputs": dict(self.inputs),
            **said,
            "warnings": list(self.warnings),
            "notes": [note.text for note in self.notes],
            **self.payload,
        }
