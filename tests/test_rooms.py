"""What a room may import, written down once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import kvplan

PACKAGE = Path(kvplan.__file__).parent
TESTS = Path(__file__).parent

# A room and the rooms below it; a room that is not named may import none of kvplan. No arrow runs
# upward: each room stands after all that it imports.
GROUND = {"errors", "units", "report", "limits", "files", "json_text"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "report": set(),
    "units": {"errors"},
    "limits": {"errors", "units"},
    "files": {"errors"},
    "json_text": {"errors"},
    "formats": {"errors", "units"},
    "kinds": {"limits"},
    "groups": {"kinds", "limits"},
    "stored": {"limits", "units"},
    "spec": {"errors", "formats", "groups", "kinds", "limits", "stored", "units"},
    "gpu": {"limits"},
    "dtypes": {"errors", "formats", "kinds", "spec"},
    "parallel": {"errors", "kinds", "limits", "spec", "units"},
    "weights": {"parallel", "spec", "stored", "units"},
    "calc": {"dtypes", "errors", "formats", "kinds", "limits", "parallel", "spec", "units"},
    "multi_head": {"calc", "dtypes", "errors", "formats", "groups", "spec"},
    "hf": {"errors", "files", "groups", "json_text", "kinds", "spec", "stored", "units"},
    "registry": {"errors", "files", "gpu", "hf", "kinds", "limits", "spec", "units"},
    "engines": {
        *("calc", "dtypes", "errors", "formats", "gpu", "groups", "json_text", "kinds", "limits"),
        *("parallel", "spec", "stored", "units", "weights"),
    },
    "question": {
        "dtypes",
        "engines",
        "errors",
        "gpu",
        "limits",
        "parallel",
        "registry",
        "spec",
        "units",
    },
    "planner": {
        *("calc", "dtypes", "engines", "errors", "formats", "gpu", "kinds"),
        *("multi_head", "parallel"),
        *("question", "spec", "stored", "units", "weights"),
    },
    "checks": {
        *GROUND,
        "calc",
        "engines",
        "gpu",
        "kvplan",
        "parallel",
        "planner",
        "question",
        "registry",
        "spec",
    },
    "measure": {
        *GROUND,
        "calc",
        "dtypes",
        "engines",
        "gpu",
        "kinds",
        "parallel",
        "planner",
        "question",
        "spec",
        "weights",
    },
    "api": {"calc", "checks", "dtypes", "planner", "question", "spec"},
    "views": {
        *(GROUND - {"files", "json_text", "limits"}),
        *{"calc", "checks", "dtypes", "engines", "formats", "gpu", "measure", "multi_head"},
        "parallel",
        "planner",
        *{"question", "spec", "weights"},
    },
    "render": {"report", "units"},
    "cli": {
        *("dtypes", "formats"),
        *(GROUND - {"limits"}),
        *{
            "checks",
            "engines",
            "hf",
            "kvplan",
            "measure",
            "planner",
            "question",
            "registry",
            "render",
        },
        "views",
    },
    "__main__": {"cli", "errors"},
    "__init__": {"api", "calc", "checks", "errors", "gpu", "planner", "registry", "spec", "units"},
}
OUTSIDERS = {
    "rich": {"render"},
    "typer": {"cli"},
    "yaml": {"registry"},
    "pydantic": {"registry", "limits", "kinds"},
    "pydantic_core": {"limits"},
    "torch": {"measure/device", "measure/kernels"},
    "triton": {"measure/device", "measure/kernels"},
    "huggingface_hub": {"hf"},
}


def imports() -> Iterator[tuple[Path, str]]:
    """Every file of the package, as seen from it, with each module that it imports."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                if node.module == "kvplan":
                    names = (f"kvplan.{alias.name}" for alias in node.names)
                else:
                    names = (node.module for _ in (0,))
                yield from ((path.relative_to(PACKAGE), name) for name in names)
            elif isinstance(node, ast.Import):
                yield from ((path.relative_to(PACKAGE), alias.name) for alias in node.names)


def room_of(path: Path) -> str:
    return path.parts[0].removesuffix(".py")


def test_rooms_import_only_what_lies_below_them() -> None:
    for path, module in imports():
        parts = module.split(".")
        if parts[0] == "kvplan":
            imported = "kvplan" if parts[1].startswith("__") else parts[1]
            room = room_of(path)
            assert imported == room or imported in ALLOWED[room], f"{path} imports {module}"


def test_no_arrow_runs_upward() -> None:
    standing: set[str] = set()
    for room, below in ALLOWED.items():
        assert below <= standing | {"kvplan"}, room
        standing.add(room)


def test_packages_stay_in_their_rooms() -> None:
    for path, module in imports():
        rooms = OUTSIDERS.get(module.split(".")[0])
        folders = {room_of(path), "/".join(path.parts[:2])}
        assert rooms is None or folders & rooms, f"{path} imports {module}"


FILES = sorted(path for folder in (PACKAGE, TESTS) for path in folder.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_files_and_functions_stay_small(path: Path) -> None:
    """Four hundred lines and forty; a GPU kernel is as long as it is."""
    if "kernels" in path.parts:
        return
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 40, node.name
