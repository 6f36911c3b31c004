"""What a room may import, written down once."""

from __future__ import annotations

import ast
from pathlib import Path

import kvplan

PACKAGE = Path(kvplan.__file__).parent

# A room and the rooms below it; a room that is not named may import none of kvplan.
ALLOWED = {
    "units": {"errors"},
    "limits": {"errors", "units"},
    "kinds": {"kinds", "limits"},
    "formats": {"errors", "units"},
    "parallel": {"errors", "kinds"},
    "spec": {"errors", "formats", "kinds", "limits", "units"},
    "calc": {"errors", "formats", "kinds", "parallel", "spec", "units"},
    "files": {"errors"},
    "strict_yaml": {"errors", "files"},
    "validation": {"errors", "kinds", "spec", "strict_yaml"},
    "deployments": {"errors", "limits", "spec", "strict_yaml", "validation"},
    "lock": {"deployments", "errors", "files", "kvplan", "spec"},
    "expectations": {"calc", "deployments", "planning", "units"},
    "check": {
        "deployments",
        "errors",
        "expectations",
        "lock",
        "parallel",
        "planning",
        "registry",
        "spec",
    },
    "difference": {"calc", "comparison", "errors", "lock", "registry", "spec", "units"},
    "registry": {"errors", "hf", "spec", "strict_yaml", "validation"},
    "hf": {"errors", "files", "hf", "kinds", "spec", "units"},
    "fit": {"calc", "errors", "parallel", "spec", "units"},
    "weights": {"parallel", "spec", "units"},
    "planning": {"calc", "errors", "fit", "formats", "parallel", "spec", "units", "weights"},
    "comparison": {"calc", "errors", "fit", "parallel", "registry", "spec", "units"},
    "measure": {
        "calc",
        "errors",
        "fit",
        "kinds",
        "measure",
        "parallel",
        "planning",
        "spec",
        "units",
        "weights",
    },
    "answers": {
        "answers",
        "calc",
        "check",
        "comparison",
        "difference",
        "errors",
        "formats",
        "fit",
        "measure",
        "planning",
        "report",
        "spec",
        "units",
    },
    "render": {"render", "report", "units"},
    "cli": {
        "answers",
        "check",
        "comparison",
        "difference",
        "errors",
        "files",
        "fit",
        "hf",
        "kvplan",
        "lock",
        "measure",
        "parallel",
        "planning",
    }
    | {"registry", "render", "report", "units"},
    "__main__": {"cli"},
    "__init__": {"calc", "comparison", "errors", "registry", "spec", "units"},
}
OUTSIDERS = {
    "rich": {"render"},
    "typer": {"cli"},
    "yaml": {"strict_yaml"},
    "torch": {"measure"},
    "triton": {"measure"},
}


def imports() -> list[tuple[str, str]]:
    """Every (room, imported module) of the package."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                found.append((room, node.module))
            elif isinstance(node, ast.Import):
                found += [(room, alias.name) for alias in node.names]
    return found


def test_rooms_import_only_what_lies_below_them() -> None:
    for room, module in imports():
        parts = module.split(".")
        if parts[0] == "kvplan":
            imported = parts[1] if len(parts) > 1 else "kvplan"
            assert imported in ALLOWED.get(room, set()), f"{room} imports {module}"


def test_packages_stay_in_their_rooms() -> None:
    for room, module in imports():
        rooms = OUTSIDERS.get(module.split(".")[0])
        assert rooms is None or room in rooms, f"{room} imports {module}"
