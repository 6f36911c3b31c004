"""JSON read strictly: no key twice, and every error with its line, and without the file's text."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any

from kvplan.errors import SpecError

_SHOWN = 60


def parse_json(text: str, path: str, marks: Collection[str] | None = None) -> Any:
    """What this JSON text says, no key twice. Raises SpecError with the file and the line.

    A key is quoted only where the text is what it is taken for: an object with one of ``marks``,
    or anything where these are None. Other files may hold secrets.
    """
    repeated: list[str] = []

    def object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) < len(pairs) and not repeated:
            repeated.append(_repeated(pairs))
        return members

    try:
        data = json.loads(text, object_pairs_hook=object_of)
    except json.JSONDecodeError as error:
        reason = error.msg.partition(": ")[0]  # what follows is quoted
        place = f"{path}:{error.lineno}: not JSON at column {error.colno}"
        raise SpecError(f"{place}: {reason}") from None
    except RecursionError:
        raise SpecError(f"{path}:1: nested too deeply to be read") from None
    except ValueError:
        raise SpecError(f"{path}:1: not JSON: a number of too many digits") from None
    if repeated:
        known = marks is None or (isinstance(data, dict) and not data.keys().isdisjoint(marks))
        key = ascii(repeated[0])[:_SHOWN] if known else "a key"
        raise SpecError(f"{path}:{_second_line(text, repeated[0])}: {key} is given twice")
    return data


def _repeated(pairs: list[tuple[str, Any]]) -> str:
    seen: set[str] = set()
    return next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]


def _second_line(text: str, key: str) -> int:
    places = re.finditer(re.escape(json.dumps(key)) + r"\s*:", text)
    starts = [place.start() for place in places]
    return text.count("\n", 0, starts[1]) + 1 if len(starts) > 1 else 1
