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
