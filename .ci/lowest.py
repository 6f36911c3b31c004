"""The lowest versions that pyproject.toml allows, as pins for pip; torch and what needs it apart."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
for requirement in (*project["dependencies"], *project["optional-dependencies"]["test"]):
    name, lowest = re.match(r"([\w-]+)[>=]=([\w.]+)", requirement).groups()
    if name != "torch":
        print(f"{name}=={lowest}")  # noqa: T201
