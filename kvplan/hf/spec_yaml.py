"""A spec as the catalogue writes it, each figure with the key that it came from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from kvplan.groups import Group
from kvplan.spec import ModelSpec

Place = tuple[str | int, ...]

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*(\*[0-9]+)?")
_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf"}


def to_yaml(spec: ModelSpec, provenance: Mapping[Place, str]) -> str:
    """The spec as YAML that kvplan.load reads back to an equal one."""
    lines: list[str] = []
    for key in (field.name for field in fields(spec)):
        value = getattr(spec, key)
        if key == "class_defaults":
            lines += [f"# {_on_one_line(str(default))}" for default in value]
        elif key in ("groups", "draft"):
            lines += _groups(key, value, provenance)
        elif isinstance(value, tuple) and value and is_dataclass(value[0]):
            lines.append(f"{key}:{_comment(provenance.get((key,)))}")
            lines += [f"  - {_inline(row)}" for row in value]
        elif is_dataclass(value):
            lines.append(f"{key}: {_inline(value)}")
        elif key == "native_context_tokens" or value not in (None, (), False):
            lines.append(f"{key}: {_scalar(value)}{_comment(provenance.get((key,)))}")
    return "\n".join(lines) + "\n"


def _groups(key: str, groups: tuple[Group, ...], provenance: Mapping[Place, str]) -> list[str]:
    lines = [f"{key}:"] if groups else []
    for index, group in enumerate(groups):
        block = list(_group(group, (key, index), provenance))
        lines += [f"  - {block[0]}", *(f"    {line}" for line in block[1:])]
    return lines


def _group(group: Group, place: Place, provenance: Mapping[Place, str]) -> Iterator[str]:
    for key, value in (("name", group.name), ("layers", group.layers)):
        if value is not None:
            yield f"{key}: {_scalar(value)}{_comment(provenance.get((*place, key)))}"
    if len(group.caches) == 1:
        yield from _fields(group.caches[0], (*place, "caches", 0), provenance)
        return
    yield "caches:" if group.caches else "caches: []"
    for index, cache in enumerate(group.caches):
        block = list(_fields(cache, (*place, "caches", index), provenance))
        yield f"  - {block[0]}"
        yield from (f"    {line}" for line in block[1:])


def _fields(cache: Any, place: Place, provenance: Mapping[Place, str]) -> Iterator[str]:
    yield f"kind: {_scalar(getattr(cache, 'kind', None))}"
    for key, value in _set_fields(cache):
        if key != "kind":
            yield f"{key}: {_scalar(value)}{_comment(provenance.get((*place, key)))}"


def _set_fields(model: Any) -> Iterator[tuple[str, object]]:
    for field in fields(model):
        value = getattr(model, field.name)
        if field.default is MISSING or value not in (None, field.default):
            yield field.name, value


def _inline(model: Any) -> str:
    return "{" + ", ".join(f"{key}: {_scalar(value)}" for key, value in _set_fields(model)) + "}"


def _comment(text: str | None) -> str:
    return f"  # key: {_on_one_line(text)}" if text else ""


def _scalar(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_scalar, value))}]"
    return _text(value) if isinstance(value, str) else str(value)


def _text(value: str) -> str:
    """Plain where nothing could be taken for anything else, else double-quoted YAML."""
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    quoted = re.sub(r'(["\\])', r"\\\1", value)
    return f'"{_on_one_line(quoted)}"'


def _on_one_line(text: str) -> str:
    """The text with escapes for what is not printable, and for what a CI runner would obey.

    Surrogates are not printable, so that what is left can be written in any encoding.
    """
    shown = "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in text)
    return re.sub(r"#(?=#\w*\[)", r"\\x23", shown)
