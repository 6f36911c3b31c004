"""JSON read strictly: no key twice, and every error with its file and line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from kvplan.errors import SpecError
from kvplan.files import read_text
from kvplan.hf.config import printable, shown

MAX_FILE_BYTES = 16 << 20


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in this file. Raises SpecError with file and line for anything else."""
    text = read_text(path, MAX_FILE_BYTES, "config.json")
    shown_path = printable(str(path))
    if not text.strip():
        raise SpecError(f"{shown_path}: empty; a config.json is a JSON object")
    data = parse_json(text, shown_path)
    if not isinstance(data, dict):
        raise SpecError(f"{shown_path}:1: a config.json is a JSON object, not {shown(data)}")
    return data


def parse_json(text: str, path: str) -> Any:
    """What this JSON text says, no key twice. Raises SpecError with the file and the line."""
    try:
        return json.loads(text, object_pairs_hook=_no_duplicates)
    except json.JSONDecodeError as error:
        raise SpecError(f"{path}:{error.lineno}: not JSON: {error.msg}") from None
    except _DuplicateKeyError as error:
        line = _second_line(text, error.key)
        raise SpecError(f"{path}:{line}: {shown(error.key)} is given twice") from None
    except RecursionError:
        raise SpecError(f"{path}:1: nested too deeply to be read") from None
    except ValueError as error:  # a number of more digits than Python converts
        raise SpecError(f"{path}:1: not JSON: {printable(str(error))[:80]}") from None


class _DuplicateKeyError(Exception):
    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _DuplicateKeyError(key)
        found[key] = value
    return found


def _second_line(text: str, key: str) -> int:
    places = re.finditer(re.escape(json.dumps(key)) + r"\s*:", text)
    starts = [place.start() for place in places]
    return text.count("\n", 0, starts[1]) + 1 if len(starts) > 1 else 1
