"""The arguments of ``vllm serve``, read from a wheel's own sources without importing them.

``python -m tests.engines.vllm.write_arguments FOLDER VERSION``, FOLDER being the unpacked wheel's
``vllm``, writes kvplan/engines/vllm/arguments.json: names and what kind of value each takes.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import kvplan

TARGET = Path(kvplan.__file__).parent / "engines" / "vllm" / "arguments.json"
SOURCES = ("engine/arg_utils.py", "entrypoints/common/cli_args.py")
FRONTEND = ("BaseFrontendArgs", "FrontendArgs")
"""Classes each field of which is an argument (entrypoints/common/cli_args.py)."""


@dataclass
class Sources:
    """What the files of a wheel define: fields of classes, and names for ``Literal``."""

    fields: dict[str, dict[str, ast.expr]] = field(default_factory=dict)
    bases: dict[str, list[str]] = field(default_factory=dict)
    words: dict[str, ast.expr] = field(default_factory=dict)

    def read(self, path: Path) -> None:
        """Add what this file defines."""
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                own = {
                    part.target.id: part.annotation
                    for part in node.body
                    if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)
                }
                self.fields.setdefault(node.name, own)
                self.bases.setdefault(node.name, [ast.unparse(base) for base in node.bases])
            elif isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("Literal"):
                self.words[ast.unparse(node.targets[0])] = node.value

    def annotation(self, name: str, key: str) -> ast.expr:
        """The type of this field of this class."""
        classes = [name]
        for base in classes:
            if key in self.fields.get(base, {}):
                return self.fields[base][key]
            classes += self.bases.get(base, [])
        raise KeyError(f"{name}.{key}")


def value_of(annotation: ast.expr, sources: Sources) -> dict[str, object]:
    """What a value is, and the words that it may be where it is one of a few."""
    names: set[str] = set()
    words: list[str] = []
    expressions = [annotation]
    for expression in expressions:
        for part in ast.walk(expression):
            if isinstance(part, ast.Name):
                names.add(part.id)
                expressions += [sources.words[part.id]] if part.id in sources.words else []
            elif isinstance(part, ast.Subscript) and ast.unparse(part.value) == "Literal":
                words += [str(ast.literal_eval(word)) for word in _elements(part.slice)]
    kind = _kind_of(names, sources)
    return {"value": kind} | ({"words": words} if kind == "word" and words else {})


def _elements(node: ast.expr) -> list[ast.expr]:
    """What stands between the brackets of a Literal, names of other ones left out."""
    parts = node.elts if isinstance(node, ast.Tuple) else [node]
    return [part for part in parts if isinstance(part, ast.Constant)]


def _kind_of(words: set[str], sources: Sources) -> str:
    """The kind of a type of these names, in the order in which vLLM's get_kwargs asks."""
    if any(word.endswith("Config") and word in sources.fields for word in words):
        return "json"
    if words == {"bool", "str"}:
        return "flag or text"
    for word, kind in _KINDS:
        if word in words:
            return kind
    return "text"


_KINDS = (
    *(("bool", "flag"), ("Literal", "word"), ("tuple", "list"), ("list", "list"), ("set", "list")),
    *(
        ("int", "integer"),
        ("float", "decimal"),
        ("dict", "json"),
        ("MultiModalDummyOptions", "json"),
    ),
)


def arguments(folder: Path) -> Iterator[tuple[list[str], dict[str, object]]]:
    """Names of each argument, and its value."""
    sources = Sources()
    for path in [*folder.glob("config/**/*.py"), *(folder / name for name in SOURCES)]:
        sources.read(path)
    for name in SOURCES:
        tree = ast.parse((folder / name).read_text(encoding="utf-8"))
        configs = {
            ast.unparse(node.targets[0]): ast.unparse(node.value.args[0])
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Call)
            and ast.unparse(node.value.func) == "get_kwargs"
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("add_argument"):
                names = [str(part.value) for part in node.args if isinstance(part, ast.Constant)]
                if names and names[0].startswith("-"):
                    yield names, _value(node, configs, sources)
    for frontend in FRONTEND:
        for key, annotation in sources.fields[frontend].items():
            yield [f"--{key.replace('_', '-')}"], value_of(annotation, sources)


def _value(call: ast.Call, configs: dict[str, str], sources: Sources) -> dict[str, object]:
    given = {part.arg: ast.unparse(part.value) for part in call.keywords if part.arg}
    if "action" in given:
        return {"value": "flag"}
    for node in ast.walk(call):
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) in configs:
            key = ast.literal_eval(node.slice)
            return value_of(sources.annotation(configs[ast.unparse(node.value)], key), sources)
    kinds = {"int": "integer", "float": "decimal", "json.loads": "json"}
    return {"value": kinds.get(given.get("type", ""), "text")}


def document(folder: Path, version: str) -> str:
    """The data file's text: a line an argument."""
    rows = {tuple(names): value for names, value in arguments(folder)}
    lines = [json.dumps({"names": names, **rows[names]}) for names in sorted(rows)]
    source = f"vllm {version}: {', '.join(SOURCES)}"
    head = f'{{\n"version": {json.dumps(version)},\n"source": {json.dumps(source)},\n'
    return head + '"arguments": [\n' + ",\n".join(lines) + "\n]\n}\n"


if __name__ == "__main__":
    TARGET.write_text(document(Path(sys.argv[1]), sys.argv[2]), encoding="utf-8")
