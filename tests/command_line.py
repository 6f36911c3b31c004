"""What a command of kvplan printed, for the tests that run one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Result:
    """What a command printed, and its exit code."""

    returncode: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        """The JSON that was printed."""
        return json.loads(self.stdout)


Run = Callable[..., Result]
"""Runs ``kvplan ARGUMENTS``; the fixture ``run`` is one."""


def cells(text: str) -> list[list[str]]:
    """A printed table line by line, without what a terminal library draws between its cells."""
    lines = (line.strip() for line in text.splitlines())
    return [line.split() for line in lines if line and set(line) != {"─"}]
