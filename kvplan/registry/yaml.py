"""Strict YAML: plain data with the line of every part, and nothing that could unfold."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from kvplan.errors import SpecError, nearest
from kvplan.files import read_text

MAX_FILE_BYTES = 1 << 20
MAX_NODES = 50_000
MAX_DEPTH = 40
MERGE = "<<"

_SHOWN = 60

MARKS = frozenset(
    [
        *("native_context_tokens", "kv_cache_dtype", "groups", "pattern", "draft_weights"),
        *("deployments", "gpus"),
    ]
)
"""Keys by which a file is known as one that kvplan reads: any of them, or a misspelt one, stands at
its top. Of all other files nothing is quoted, for they may hold secrets."""

_MISSPELT = 0.8
_MOST_KEYS = 100

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# A number is spelt as on the command line (units.py), and may be negative so that a message can say
# it. All else stays text: nobody can tell what "010", "1_000" or "0x10" meant to whoever wrote it.
# Python refuses to read an int of more than 4,300 digits.
_INT = re.compile(r"0|-?[1-9][0-9]{0,4000}")
_FLOAT = re.compile(r"-?(0|[1-9][0-9]{0,300})\.[0-9]{1,300}")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "~": None}

Location = tuple[str | int, ...]


@dataclass
class Document:
    """Plain data and the line on which each part of it stands."""

    data: Any
    lines: dict[Location, int] = field(default_factory=dict)

    def line(self, location: Location) -> int:
        """Line of the nearest part that the file really has."""
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location, 1)


@dataclass
class _Open:
    """A mapping or list that is still being filled; ``key`` waits for its value."""

    container: dict[str, Any] | list[Any]
    location: Location
    key: str | None = None
    merging: bool = False
    anchor: str | None = None
    nodes_before: int = 0
    merges: list[Any] = field(default_factory=list)

    def next_location(self) -> Location:
        """Where the next value goes."""
        return (*self.location, len(self.container) if self.key is None else self.key)

    def add(self, value: Any) -> None:
        """Put the value in its place."""
        if isinstance(self.container, list):
            self.container.append(value)
        elif self.key is not None:
            if self.key == MERGE and self.merging:
                self.merges.append(value)
            else:
                self.container[self.key] = value
            self.key = None

    def merge(self) -> bool:
        """What ``<<`` brings in where the mapping has no such key; False for what cannot be."""
        for value in self.merges:
            for merged in value if isinstance(value, list) else [value]:
                if not isinstance(merged, dict):
                    return False
                for key, each in merged.items():
                    self.container.setdefault(key, each)  # type: ignore[union-attr]
        return True


class _Reader:
    """Builds plain data from YAML events, with YAML 1.2's scalars and no recursion.

    Duplicate keys, tags and depth are refused as they are met, and so are anchors where they are
    not asked for; an alias counts as all that it stands for, so that nothing small can unfold into
    something large. A problem that quotes the file waits until it is known to be one of kvplan's.
    """

    def __init__(self, path: Path, *, anchors: bool) -> None:
        self.path = path
        self.lines: dict[Location, int] = {}
        self.nodes = 0
        self.anchors: dict[str, tuple[Any, int]] | None = {} if anchors else None
        self.quoting: SpecError | None = None

    def read(self, text: str) -> Document:
        """The one document of ``text``. Raises SpecError."""
        try:
            data = self._document(yaml.parse(text, Loader=_LOADER))
        except yaml.YAMLError as error:
            mark: Any = getattr(error, "problem_mark", None)
            reason = getattr(error, "problem", None) or str(error).splitlines()[0]
            reason = re.sub(r" ?(['\"]).*\1", "", reason)
            line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            place = f"{self.path}:{line}: not YAML at column {column}"
            raise SpecError(f"{place}: {reason}") from None
        if isinstance(data, dict) and data and not _is_marked(data):
            raise SpecError(f"{self.path}: no spec, deployments or GPUs: it has none of their keys")
        if self.quoting is not None:
            raise self.quoting
        return Document(data, self.lines)

    def _document(self, events: Iterable[Any]) -> Any:
        root: Any = None
        unfinished: list[_Open] = []
        for event in events:
            if isinstance(event, yaml.CollectionEndEvent):
                self._close(unfinished.pop())
            if isinstance(event, yaml.DocumentStartEvent) and () in self.lines:
                raise self._failure(event, "a second document; write one spec a file")
            if not isinstance(event, yaml.NodeEvent):
                continue
            self._check(event, len(unfinished))
            here = unfinished[-1] if unfinished else None
            if here and isinstance(here.container, dict) and here.key is None:
                here.key = self._key(event, here)
                continue
            location = here.next_location() if here else ()
            self.lines.setdefault(location, _line(event))
            self._check_not_empty(event, location)
            value = self._aliased(event) if isinstance(event, yaml.AliasEvent) else _value(event)
            if here:
                here.add(value)
            else:
                root = value
            if isinstance(event, yaml.CollectionStartEvent):
                merging = self.anchors is not None
                unfinished.append(
                    _Open(value, location, None, merging, event.anchor, nodes_before=self.nodes)
                )
            elif event.anchor and self.anchors is not None:
                self.anchors.setdefault(event.anchor, (value, 1))
        return root

    def _close(self, done: _Open) -> None:
        if not done.merge():
            line = self.lines[(*done.location, MERGE)]
            raise SpecError(f"{self.path}:{line}: << takes *mapping, or a list of such")
        if done.anchor and self.anchors is not None:
            self.anchors[done.anchor] = (done.container, self.nodes - done.nodes_before + 1)

    def _aliased(self, event: Any) -> Any:
        known = self.anchors or {}
        if event.anchor not in known:
            self._quote(event, f"*{quoted(event.anchor)[1:-1]} stands for nothing that is above it")
            return None
        value, nodes = known[event.anchor]
        self.nodes += nodes
        return value

    def _failure(self, event: Any, problem: str) -> SpecError:
        return SpecError(f"{self.path}:{_line(event)}: {problem}")

    def _quote(self, event: Any, problem: str) -> None:
        self.quoting = self.quoting or self._failure(event, problem)

    def _check(self, event: Any, depth: int) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise self._failure(event, f"more than {MAX_NODES:,} values; this is not a spec")
        if depth > MAX_DEPTH:
            raise self._failure(event, f"nested deeper than {MAX_DEPTH} levels; this is not a spec")
        if self.anchors is None and event.anchor:
            raise self._failure(event, "anchors and aliases are not used in specs; write it out")
        if getattr(event, "tag", None) not in (None, "!"):
            self._quote(event, f"the tag {quoted(event.tag)} is not used in specs")

    def _check_not_empty(self, event: Any, location: Location) -> None:
        """Nothing after a colon is a value that got lost; none is written ``null``."""
        plain = isinstance(event, yaml.ScalarEvent) and event.implicit[0]
        if location and plain and not event.value:
            place = ".".join(map(str, location))
            self._quote(event, f"{_shortened(place)}: is empty; give it a value, or leave it out")

    def _key(self, event: Any, here: _Open) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            raise self._failure(event, "a list or mapping cannot be a key")
        key = str(event.value)
        location = (*here.location, key)
        if key == MERGE and self.anchors is not None:
            return key
        if key in here.container:
            first = self.lines[location]
            self._quote(event, f"{quoted(key)} is given twice (first on line {first})")
        self.lines[location] = _line(event)
        return key


def _is_marked(data: dict[str, Any]) -> bool:
    keys = list(data)[:_MOST_KEYS]
    return not MARKS.isdisjoint(data) or any(nearest(key, MARKS, 1, _MISSPELT) for key in keys)


def _line(event: Any) -> int:
    line: int = event.start_mark.line + 1
    return line


def _value(event: Any) -> Any:
    if isinstance(event, yaml.MappingStartEvent):
        return {}
    if isinstance(event, yaml.SequenceStartEvent):
        return []
    text = str(event.value)
    if not event.implicit[0]:
        return text
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def read_yaml(path: Path, *, anchors: bool = False) -> Document:
    """The document in this file. Raises SpecError with file and line for anything else.

    With ``anchors``, ``&name``, ``*name`` and ``<<`` work as in YAML 1.1.
    """
    return parse_yaml(read_text(path, MAX_FILE_BYTES, "spec file"), path, anchors=anchors)


def parse_yaml(text: str, path: Path, *, anchors: bool = False) -> Document:
    """The document in this text of the file. Raises SpecError as ``read_yaml`` does."""
    document = _Reader(path, anchors=anchors).read(text)
    if document.data is None:
        raise SpecError(f"{path}: empty; the README shows what such a file holds")
    if not isinstance(document.data, dict):
        raise SpecError(f"{path}:1: has to be a mapping of keys, not {type_name(document.data)}")
    return document


def quoted(value: object) -> str:
    """The value as text in quotes, shortened where it is long."""
    return repr(_shortened(str(value)))


def shown(value: object) -> str:
    """The value as a message shows it: text in quotes, containers by their kind."""
    if value is None or isinstance(value, dict | list):
        return type_name(value)
    return quoted(value) if isinstance(value, str) else _shortened(str(value))


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text):,} characters)"


def type_name(value: object) -> str:
    """What the value is, in words."""
    names = {dict: "a mapping", list: "a list", str: "text", bool: "true or false"}
    return "nothing" if value is None else names.get(type(value), "a number")
