"""A user's spec checked against the classes it is for: every problem at once, with its line."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from kvplan.errors import SpecError, nearest
from kvplan.kinds import KINDS, CacheKind
from kvplan.limits import Input
from kvplan.registry.yaml import Document, Location, quoted, shown

T = TypeVar("T", bound=Input)

MOST_PROBLEMS = 30
"""Of one file that are told in full; of the others, how many there are."""
_UNKNOWN_KEY = "unexpected_keyword_argument"
_WANTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dataclass_type": "a mapping",
    "dict_type": "a mapping",
    "finite_number": "a finite number",
    "string_too_short": "text, and not empty",
    "string_pattern_mismatch": "text, and not empty",
    "string_too_long": "shorter text",
}
_BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}


def validate(document: Document, model: type[T], path: Path) -> T:
    """The document as ``model``. Raises SpecError with every problem at once."""
    try:
        return TypeAdapter(model).validate_python(model.prepared(document.data))
    except ValidationError as error:
        raise SpecError(*_problems(error, document, path, model)) from None


def _problems(
    error: ValidationError, document: Document, path: Path, model: type[Input]
) -> list[str]:
    details = [(detail, _place(detail, document)) for detail in error.errors(include_url=False)]
    details.sort(key=lambda found: (found[0]["type"] != _UNKNOWN_KEY, document.line(found[1])))
    messages = [
        f"{path}:{document.line(location)}: {_explain(dict(detail), location, model)}"
        for detail, location in details[:MOST_PROBLEMS]
    ]
    more = len(details) - MOST_PROBLEMS
    return messages if more <= 0 else [*messages, f"{path}: and {more:,} more"]


def _place(detail: Any, document: Document) -> Location:
    location = _in_file(detail["loc"], document.data)
    return (*location, "kind") if detail["type"] == "union_tag_invalid" else location


def _in_file(loc: tuple[int | str, ...], data: Any) -> Location:
    """A pydantic location without the steps that the file does not have (union tags)."""
    location: list[str | int] = []
    for index, step in enumerate(loc):
        present = step in data if isinstance(data, dict) else isinstance(data, list)
        if present:
            data = data[step]
        elif index + 1 < len(loc):
            continue
        elif step in KINDS or isinstance(step, int):
            break
        location.append(step)
    return tuple(location)


def _explain(detail: dict[str, Any], location: Location, model: type[Input]) -> str:
    if detail["type"] == _UNKNOWN_KEY:
        return f"unknown key {quoted(location[-1])}{_did_you_mean(detail['loc'], model)}"
    where = ".".join(str(step) for step in location) or "the file"
    return f"{where}: {_problem(detail)}"


def _problem(detail: dict[str, Any]) -> str:
    """What is wrong with one value, in words of our own: pydantic's move between releases."""
    error, context, value = detail["type"], detail.get("ctx", {}), shown(detail["input"])
    if error == "string_type" and isinstance(detail["input"], int | float):
        return f"has to be text, not {value}: put it in quotes"
    if error in _WANTED:
        return f"has to be {_WANTED[error]}, not {value}"
    if error in _BOUNDS:
        words, key = _BOUNDS[error]
        return f"has to be {words} {context[key]:,}, not {value}"
    match error:
        case "missing":
            problem = "is missing"
        case "union_tag_invalid":
            problem = f"no kind of cache is called {_nearest_kind(str(context['tag']))}"
        case "union_tag_not_found":
            problem = f"kind is missing: one of {', '.join(KINDS)}"
        case "literal_error":
            problem = f"has to be {context['expected'].replace(chr(39), '')}, not {value}"
        case "value_error":
            problem = str(context["error"])
        case _:
            problem = f"cannot be {value}"
    return problem


def _nearest_kind(kind: str) -> str:
    near = nearest(kind, KINDS, 1)
    hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(KINDS)}"
    return f"{quoted(kind)}; {hint}"


def _did_you_mean(loc: tuple[int | str, ...], model: type[Input]) -> str:
    parts = model.parts()
    owner: type[Any] = next(
        (parts[str(step)] for step in reversed(loc[:-1]) if step in parts), model
    )
    keys = [field.name for field in fields(owner)]
    if issubclass(owner, CacheKind):
        keys += ["name", "layers"]  # of the group in which the cache stands inline
    near = nearest(str(loc[-1]), keys, 1, 0.5)
    return f"; did you mean {near[0]}?" if near else f"; known here: {', '.join(keys)}"
