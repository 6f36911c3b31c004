"""The lowest versions that pyproject.toml allows, as pins for pip; without torch."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
for requirement in (*project["dependencies"], *project["optional-dependencies"]["test"]):
    match = re.match(r"([\w-]+)[>=]=([\w.]+)", requirement)
    if match and match[1] != "torch":
        name, lowest = match.groups()
        print(f"{name}=={lowest}")
