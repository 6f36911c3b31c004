"""Which arguments ``vllm serve`` has, and what each of them takes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from kvplan.errors import RefusedError, UsageError

_FILE = Path(__file__).with_name("arguments.json")


@dataclass(frozen=True)
class Argument:
    """One argument of a version of vLLM: its kind of value, and the words where it is one."""

    version: str
    name: str
    kind: str
    words: tuple[str, ...] = ()

    def check(self, value: str) -> None:
        """Raises UsageError where vLLM's parser would not take this word."""
        if self.words and value not in self.words:
            raise UsageError(
                f"vllm {self.version} has no {self.name} {value}", f"it has {', '.join(self.words)}"
            )


@cache
def _known() -> tuple[str, dict[str, dict[str, Any]]]:
    data = json.loads(_FILE.read_text(encoding="utf-8"))
    return data["version"], {name: row for row in data["arguments"] for name in row["names"]}


def check_version(version: str | None) -> None:
    """Raises RefusedError for a release whose arguments nobody has read."""
    known, _ = _known()
    if version != known:
        raise RefusedError(
            f"the arguments of vllm {version} are not known: no command is printed",
            f"known are those of {known}",
        )


def argument(name: str) -> Argument:
    """The argument of this name; ``--no-`` stands before a flag's. Raises RefusedError."""
    version, known = _known()
    row = known.get(name) or known.get(name.replace("--no-", "--", 1))
    if row is None or (name not in known and row["value"] != "flag"):
        raise RefusedError(f"vllm {version} has no argument {name}")
    return Argument(version, name, row["value"], tuple(row.get("words", ())))
