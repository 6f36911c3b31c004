"""Strict YAML: plain data with the line of every part, and nothing that could unfold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from kvplan.errors import SpecError

MAX_FILE_BYTES = 1 << 20
MAX_NODES = 50_000
MAX_DEPTH = 40

_SHOWN = 60

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# YAML 1.2's numbers, but "010" and "1_000" stay text: nobody can tell what the writer meant.
# Python refuses to read an int of more than 4,300 digits.
_INT = re.compile(r"[-+]?(0|[1-9][0-9]{0,4000})")
_FLOAT = re.compile(
    r"[-+]?((\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)(e[-+]?[0-9]+)?|\.(inf|nan))", re.IGNORECASE
)
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}

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


class _Reader:
    """Builds plain data from YAML events, with YAML 1.2's scalars and no recursion.

    Duplicate keys, anchors, tags and depth are refused as they are met, so that nothing small can
    unfold into something large.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[Location, int] = {}
        self.nodes = 0

    def fail(self, event: Any, problem: str) -> SpecError:
        """An error at the line of this event."""
        return SpecError(f"{self.path}:{event.start_mark.line + 1}: {problem}")

    def read(self, text: str) -> Document:
        """The one document of ``text``. Raises SpecError."""
        events = iter(yaml.parse(text, Loader=_LOADER))
        try:
            data = self._document(events)
        except yaml.MarkedYAMLError as error:
            mark: Any = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else 1
            raise SpecError(f"{self.path}:{line}: not YAML: {error.problem}") from None
        except yaml.YAMLError as error:
            reason = str(error).splitlines()[0]
            raise SpecError(f"{self.path}:1: not YAML: {reason}") from None
        return Document(data, self.lines)

    def _document(self, events: Iterator[Any]) -> Any:
        stack: list[tuple[Any, Location]] = []
        pending: list[str | None] = []
        root: Any = None
        documents = 0
        for event in events:
            match type(event).__name__:
                case "StreamStartEvent" | "StreamEndEvent" | "DocumentEndEvent":
                    continue
                case "DocumentStartEvent":
                    documents += 1
                    if documents > 1:
                        raise self.fail(event, "a second document; write one spec a file")
                    continue
                case "MappingEndEvent" | "SequenceEndEvent":
                    stack.pop()
                    pending.pop()
                    continue
            self._check(event, len(stack))
            if stack and isinstance(stack[-1][0], dict) and pending[-1] is None:
                pending[-1] = self._key(event, *stack[-1])
                continue
            location = self._location(stack, pending)
            self.lines.setdefault(location, event.start_mark.line + 1)
            value = self._value(event)
            if stack:
                container = stack[-1][0]
                if isinstance(container, dict):
                    container[pending[-1]] = value
                    pending[-1] = None
                else:
                    container.append(value)
            else:
                root = value
            if isinstance(value, dict | list):
                stack.append((value, location))
                pending.append(None)
        return root

    def _check(self, event: Any, depth: int) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise self.fail(event, f"more than {MAX_NODES:,} values; this is no spec")
        if depth > MAX_DEPTH:
            raise self.fail(event, f"nested deeper than {MAX_DEPTH} levels; this is no spec")
        if isinstance(event, yaml.AliasEvent) or event.anchor:
            raise self.fail(event, "anchors and aliases are not used in specs; write it out")
        if getattr(event, "tag", None) not in (None, "!"):
            raise self.fail(event, f"the tag {event.tag} is not used in specs")

    @staticmethod
    def _location(stack: list[tuple[Any, Location]], pending: list[str | None]) -> Location:
        if not stack:
            return ()
        container, location = stack[-1]
        key = pending[-1] if isinstance(container, dict) else len(container)
        return (*location, key if key is not None else "")

    def _key(self, event: Any, container: dict[str, Any], location: Location) -> str:
        if not isinstance(event, yaml.ScalarEvent):
            raise self.fail(event, "a list or mapping cannot be a key")
        key = str(event.value)
        if key in container:
            first = self.lines[(*location, key)]
            raise self.fail(event, f"{quoted(key)} is given twice (first on line {first})")
        self.lines[(*location, key)] = event.start_mark.line + 1
        return key

    @staticmethod
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
        return float(re.sub(r"\.(?=[in])", "", text.lower())) if _FLOAT.fullmatch(text) else text


def read_yaml(path: Path) -> Document:
    """The document in this file. Raises SpecError with file and line for anything else."""
    try:
        if path.is_dir():
            raise SpecError(f"{path}: is a folder, not a spec file")
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from None
    if len(content) > MAX_FILE_BYTES:
        raise SpecError(f"{path}: larger than {MAX_FILE_BYTES:,} bytes; this is no spec")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SpecError(f"{path}: not a text file (it is not UTF-8)") from None
    document = _Reader(path).read(text)
    if document.data is None:
        raise SpecError(f"{path}: empty; a spec has at least name, source, dtype and groups")
    if not isinstance(document.data, dict):
        raise SpecError(f"{path}:1: a spec is a mapping of keys, not {type_name(document.data)}")
    return document


def quoted(value: object) -> str:
    """The value as text in quotes, shortened where it is long."""
    return repr(_shortened(str(value)))


def shown(value: object) -> str:
    """The value as a message shows it: text in quotes, containers by their kind."""
    if isinstance(value, dict | list):
        return type_name(value)
    return quoted(value) if isinstance(value, str) else _shortened(str(value))


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text):,} characters)"


def type_name(value: object) -> str:
    """What the value is, in words."""
    names = {dict: "a mapping", list: "a list", str: "text", bool: "true or false"}
    return names.get(type(value), "a number")
