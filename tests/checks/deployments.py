"""Files of deployments, and what ``kvplan check`` finds in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.command_line import Run


def findings(run: Run, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    result = run("check", *arguments, "--json")
    return result.returncode, result.document["findings"]


def write(tmp_path: Path, text: str, name: str = "deploy.yaml") -> str:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return name


def line_of(tmp_path: Path, text: str, name: str = "deploy.yaml") -> int:
    """The line of the file that has this text, and no other has."""
    lines = (tmp_path / name).read_text(encoding="utf-8").splitlines()
    (number,) = [number for number, line in enumerate(lines, 1) if text in line]
    return number
