"""Writes kvplan/engines/vllm/architectures.json from the sources of vLLM.

    PYTHONPATH=. python -m tests.engines.vllm.architectures FOLDER_OF_VLLM

reads the package of the 0.33.0 wheel as it lies unpacked; nothing of it is run. What its
Transformers backend can serve beside them is asked of transformers 5.24.0.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import kvplan

FILE = Path(kvplan.__file__).parent / "engines" / "vllm" / "architectures.json"
MODELS = "model_executor/models"
DRAFTS = "_SPECULATIVE_DECODING_MODELS"
_ATTENTION = re.compile(r"^class \w*Attention\w*\(nn\.Module\):", re.MULTILINE)

Registered = dict[str, tuple[str, str]]
"""Architectures with the module and the class that serve each."""


def tables(vllm: Path) -> dict[str, dict[str, Any]]:
    """The dictionaries of literals in the registry, by their names."""
    found: dict[str, dict[str, Any]] = {}
    for node in ast.parse((vllm / MODELS / "registry.py").read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.Assign | ast.AnnAssign):
            continue
        target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
        if not isinstance(target, ast.Name) or not isinstance(node.value, ast.Dict):
            continue
        pairs = zip(node.value.keys, node.value.values, strict=True)
        if all(key is not None for key in node.value.keys):
            found[target.id] = {
                ast.literal_eval(key): ast.literal_eval(value) for key, value in pairs if key
            }
    return found


def registered(found: Mapping[str, Mapping[str, Any]], *, drafts: bool) -> Registered:
    """Architectures that are drafters, or all others."""
    return {
        name: (row[0], row[1])
        for table, rows in found.items()
        if table.endswith("_MODELS") and (table == DRAFTS) is drafts
        for name, row in rows.items()
        if isinstance(row, tuple)
    }


class Classes:
    """Classes of the package by file, as their sources have them."""

    def __init__(self, vllm: Path) -> None:
        self.vllm = vllm

    def path(self, module: str) -> Path:
        """The file of a module as the registry, or an import, has it."""
        parts = module.split(".")
        base = self.vllm.joinpath(*parts[1:]) if parts[0] == "vllm" else self.vllm / MODELS / module
        return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")

    @cache  # noqa: B019 - one object a run
    def tree(self, path: Path) -> ast.Module:
        """The file's source, empty where there is none."""
        return ast.parse(path.read_text(encoding="utf-8") if path.is_file() else "")

    def origins(self, path: Path, name: str) -> Iterator[tuple[Path, str]]:
        """Where an imported name may come from: platforms have files of their own."""
        for node in ast.walk(self.tree(path)):
            if not isinstance(node, ast.ImportFrom):
                continue
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    yield self._imported(path, node), alias.name

    def _imported(self, path: Path, node: ast.ImportFrom) -> Path:
        parts = (node.module or "").split(".") if node.module else []
        if node.level:
            base = path.parents[node.level - 1].joinpath(*parts)
            return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
        return self.path(".".join(parts))

    def bases(self, path: Path, name: str, seen: frozenset[tuple[Path, str]]) -> set[str]:
        """Names of this class and of all that it inherits from."""
        if (path, name) in seen:
            return set()
        seen |= {(path, name)}
        for node in ast.walk(self.tree(path)):
            if isinstance(node, ast.ClassDef) and node.name == name:
                names = {name}
                for item in node.bases:
                    base = item.value if isinstance(item, ast.Subscript) else item
                    if isinstance(base, ast.Name):
                        names |= {base.id} | self.bases(path, base.id, seen)
                return names
        found = (self.bases(file, original, seen) for file, original in self.origins(path, name))
        return next((names for names in found if names), set())


def backend_classes() -> list[str]:
    """Classes of transformers that vLLM's Transformers backend takes."""
    import transformers
    from transformers.models.auto import modeling_auto

    names: set[str] = set()
    for table in (
        modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
        modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
        modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES,
    ):
        for value in table.values():
            names |= {value} if isinstance(value, str) else set(value)
    return sorted(name for name in names if _is_compatible(getattr(transformers, name, None)))


def _is_compatible(model_class: Any) -> bool:
    """PreTrainedModel.is_backend_compatible or _can_set_attn_implementation, of its source."""
    if model_class is None:
        return False
    if getattr(model_class, "_supports_attention_backend", False):
        return True
    source = Path(inspect.getfile(model_class)).read_text(encoding="utf-8")
    uses = "ALL_ATTENTION_FUNCTIONS.get_interface(" in source
    return uses or not _ATTENTION.search(source)


def rows(vllm: Path) -> dict[str, Any]:
    """The table without what transformers says."""
    found, classes = tables(vllm), Classes(vllm)
    models = registered(found, drafts=False)
    bases = {
        name: classes.bases(classes.path(module), class_name, frozenset())
        for name, (module, class_name) in models.items()
    }
    unread = sorted(name for name, names in bases.items() if not names)
    if unread:
        raise SystemExit(f"their classes were not found: {', '.join(unread)}")
    return {
        "models": {name: models[name][1] for name in sorted(models)},
        "drafts": sorted(registered(found, drafts=True)),
        "removed": dict(sorted(found["_PREVIOUSLY_SUPPORTED_MODELS"].items())),
        "plugins": dict(sorted(found["_OOT_SUPPORTED_MODELS"].items())),
        "no_pipeline": sorted(name for name, names in bases.items() if "SupportsPP" not in names),
    }


def written(table: Mapping[str, Any]) -> str:
    """The file, an entry of it a line."""
    lines = []
    for key, value in table.items():
        pairs = value.items() if isinstance(value, dict) else ((item, None) for item in value)
        entries = [
            f'  "{name}"' if text is None else f'  "{name}": "{text}"' for name, text in pairs
        ]
        start, end = "{}" if isinstance(value, dict) else "[]"
        lines.append(f'"{key}": {start}\n' + ",\n".join(entries) + f"\n{end}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> None:
    table = {**rows(Path(sys.argv[1])), "transformers": []}
    known = {*table["models"], *table["drafts"]}
    table["transformers"] = [name for name in backend_classes() if name not in known]
    text = written(table)
    json.loads(text)
    FILE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
