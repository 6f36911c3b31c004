"""Writes kvplan/hf/class_defaults.json from the classes of transformers.

    PYTHONPATH=. python -m tests.hf.sweep.class_defaults FOLDER_OF_AN_OLDER_TRANSFORMERS ...

needs transformers 5.24.0. Of older releases, one of them a 4, only the sources are read, as they
lie in a wheel unpacked to a folder whose name ends in the release: a default that is another there
is written under "differs", a class that no release 4 has is marked.
"""

from __future__ import annotations

import ast
import dataclasses
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kvplan
from kvplan.hf.families import FAMILIES, WRAPPERS

HF = Path(kvplan.__file__).parent / "hf"
FILE = HF / "class_defaults.json"
RELEASE = "5.24.0"

# Draft layers are never built by these classes, and the rest says nothing of the model's shape.
NOT_READ = {
    *("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules"),
    "num_mtp_layers",
    *("architectures", "dtype", "is_encoder_decoder", "transformers_version", "hidden_act"),
    *("id2label", "label2id", "rope_parameters", "rope_scaling"),
}


def words() -> set[str]:
    """Every text in the sources of the importer: the keys that it reads are among them."""
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in HF.rglob("*.py"))
    nodes = (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return {word for node in nodes if isinstance(node.value, str) for word in node.value.split()}


def defaults(config_class: type, keys: set[str]) -> dict[str, Any]:
    """The class's default of each of these keys, as JSON has it; null where it has none."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(config_class):
        if field.name not in keys - NOT_READ:
            continue
        value = field.default
        if field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
        value = list(value) if isinstance(value, tuple) else value
        if value is None or (isinstance(value, bool | int | float | str | list) and value != []):
            found[field.name] = value
    return found


def older_default(folder: Path, config_class: type) -> dict[str, Any]:
    """Defaults of the class of this name in an older release, read from its source."""
    module = config_class.__module__.removeprefix("transformers.").replace(".", "/")
    path = folder / "transformers" / f"{module}.py"
    if not path.is_file():
        return {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == config_class.__name__:
            return dict(_literals(node))
    return {}


def _literals(node: ast.ClassDef) -> Iterator[tuple[str, Any]]:
    pairs: list[tuple[str, ast.expr]] = []
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            given = item.args.args[-len(item.args.defaults) :] if item.args.defaults else []
            pairs += [(a.arg, d) for a, d in zip(given, item.args.defaults, strict=True)]
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and item.value:
            pairs.append((item.target.id, item.value))
    for name, value in pairs:
        try:
            literal = ast.literal_eval(value)
        except ValueError:
            continue
        yield name, list(literal) if isinstance(literal, tuple) else literal


def sections(config_class: type) -> dict[str, dict[str, str]]:
    """The model types of this class's sections: fixed ones, and those that a file may change."""
    found: dict[str, dict[str, str]] = {}
    sub_configs = getattr(config_class, "sub_configs", None) or {}
    try:
        made = config_class() if sub_configs else None
    except Exception:  # noqa: BLE001 - a class that cannot be made without its sections
        made = None
    for key, sub_class in sub_configs.items():
        fixed = getattr(sub_class, "model_type", "")
        model_type = fixed or getattr(getattr(made, key, None), "model_type", "")
        if model_type:
            found.setdefault("sections" if fixed else "open_sections", {})[key] = model_type
    return found


def section_defaults(
    config_class: type, within: dict[str, dict[str, str]], keys: set[str]
) -> dict[str, dict[str, int]]:
    """What this class, and not the section's own, takes for keys that a section lacks."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    found: dict[str, dict[str, int]] = {}
    for key, model_type in within.get("open_sections", {}).items():
        plain = CONFIG_MAPPING[model_type]().to_dict()
        try:
            made = getattr(config_class(**{key: {"model_type": model_type}}), key).to_dict()
        except Exception:  # noqa: BLE001, S112 - a class that checks its sections against each other
            continue
        own = {name: value for name, value in made.items() if value != plain.get(name)}
        own = {name: value for name, value in own.items() if type(value) is int and name in keys}
        # A head's width that the plain class has by chance, and that follows no other figure.
        if own and type(made.get("head_dim")) is int:
            wider = {"model_type": model_type, "hidden_size": 2 * made["hidden_size"]}
            if getattr(config_class(**{key: wider}), key).head_dim == made["head_dim"]:
                own["head_dim"] = made["head_dim"]
        if own:
            found[key] = own
    return found


def nested_tie(config_class: type, within: dict[str, dict[str, str]]) -> bool:
    """Whether ``tie_word_embeddings`` of the text part alone ties head and embedding."""
    types = {**within.get("sections", {}), **within.get("open_sections", {})}
    if "text_config" not in types:
        return False
    tied, section = "tie_word_embeddings", {"model_type": types["text_config"]}
    has_own = tied in {field.name for field in dataclasses.fields(config_class)}
    own = {tied: False} if has_own else {}
    try:
        on, off = (config_class(**own, text_config={**section, tied: tie}) for tie in (True, False))
    except Exception:  # noqa: BLE001 - as above
        return False
    return bool(getattr(on, tied, None)) and not getattr(off, tied, None)


def rows(older: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """A row for each model type that the importer reads and transformers has a class for."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    keys, found = words(), {}
    waiting = sorted({*FAMILIES, *WRAPPERS})
    while waiting:
        model_type = waiting.pop(0)
        if model_type in found or model_type not in CONFIG_MAPPING:
            continue
        config_class = CONFIG_MAPPING[model_type]
        within = sections(config_class)
        row: dict[str, Any] = {"class": config_class.__name__}
        row["defaults"] = defaults(config_class, keys)
        row |= within
        names = aliases(config_class, keys)
        row |= {"aliases": names} if names else {}
        row |= {"null_kv": True} if null_is_one_a_head(config_class) else {}
        own = section_defaults(config_class, within, keys)
        row |= {"section_defaults": own} if own else {}
        row |= {"nested_tie": True} if nested_tie(config_class, within) else {}
        row |= {"since_5": True} if within and not _in_release(4, older, config_class) else {}
        differs = _differs(row["defaults"], older, config_class)
        row |= {"differs": differs} if differs else {}
        found[model_type] = row
        waiting += [name for types in within.values() for name in types.values()]
    return dict(sorted(found.items()))


def aliases(config_class: type, keys: set[str]) -> dict[str, str]:
    """Other names of keys, by which files of other releases have them: name to the class's own."""
    names: dict[str, str] = getattr(config_class, "attribute_map", {})
    return {name: own for name, own in names.items() if {name, own} & (keys - NOT_READ)}


def null_is_one_a_head(config_class: type) -> bool:
    """Whether null KV heads are one for each attention head."""
    key = "num_key_value_heads"
    if key not in {field.name for field in dataclasses.fields(config_class)}:
        return False
    try:
        made = config_class(**{key: None})
    except Exception:  # noqa: BLE001 - a class that takes no null there
        return False
    return getattr(made, key) is not None and getattr(made, key) == made.num_attention_heads


def _in_release(major: int, older: dict[str, Path], config_class: type) -> bool:
    """Whether a release of this number has a class of this name."""
    folders = (folder for release, folder in older.items() if release.startswith(f"{major}."))
    return any(older_default(folder, config_class) for folder in folders)


def _differs(
    now: dict[str, Any], older: dict[str, Path], config_class: type
) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for release, folder in older.items():
        for key, value in older_default(folder, config_class).items():
            if now.get(key) is not None and value != now[key] and value not in (None, []):
                found.setdefault(key, {RELEASE: now[key]})[release] = value
    return found


def text(found: dict[str, dict[str, Any]]) -> str:
    """The file, a line a model type."""
    lines = (f"{json.dumps(key)}: {json.dumps(row, sort_keys=True)}" for key, row in found.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> None:
    """Writes the file."""
    folders = [Path(argument) for argument in sys.argv[1:]]
    older = {re.sub(r"^.*?(\d+\.\d+\.\d+)$", r"\1", str(folder)): folder for folder in folders}
    if not any(release.startswith("4.") for release in older):
        sys.exit("without a transformers 4 every class would seem to be new in 5")
    FILE.write_text(text(rows(older)), encoding="utf-8")


if __name__ == "__main__":
    main()
