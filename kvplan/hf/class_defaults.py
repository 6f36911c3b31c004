"""What the classes of transformers take for keys that a config.json does not have.

``class_defaults.json`` is written by a program that reads the classes themselves
(tests/hf/sweep): for each model type the name of its class, its default of every key that a
reader here names, and the model types of its sections.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from typing import Any

TRANSFORMERS = "transformers 5.24.0"
"""The release whose classes these are."""


_OWN_CODE = f"the family's own code, which is not in {TRANSFORMERS}"


@dataclass(frozen=True)
class ClassDefaults:
    """The defaults of one class by key, null where it has none and works the figure out."""

    name: str
    values: Mapping[str, Any] = field(default_factory=dict)
    sections: Mapping[str, str] = field(default_factory=dict)
    """The class of a section by its model type, whatever the section itself says."""
    open_sections: Mapping[str, str] = field(default_factory=dict)
    """The same of sections that may say another, and mostly do."""
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What other releases call a key, and that class's own name for it."""
    section_defaults: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """What this class takes for keys of a section, whatever the section's own class takes."""
    nested_tie: bool = False
    """Whether ``tie_word_embeddings`` of the text part alone ties head and embedding."""
    null_kv: bool = False
    """Whether null KV heads are one for each attention head."""
    since_5: bool = False
    """No release before 5 has this class."""
    differs: Mapping[str, str] = field(default_factory=dict)
    """Keys whose default is another in another release, with the words that say so."""

    @property
    def source(self) -> str:
        """Class and release."""
        return f"{self.name} ({TRANSFORMERS})" if self.values else _OWN_CODE

    def first(self, *keys: str) -> str:
        """The first of these keys that the class has a default for, "" where none has one."""
        names = (name for key in keys for name in (key, *self.names.get(key, ())))
        return next((name for name in names if self.values.get(name) is not None), "")

    def section(self, key: str, model_type: object) -> ClassDefaults:
        """The class of a section, by its own model type or by what this class puts there."""
        inner, own = class_defaults(self.section_type(key, model_type)), self.section_defaults
        if key not in own:
            return inner
        return replace(inner, name=f"{self.name}.{key}", values={**inner.values, **own[key]})

    def section_type(self, key: str, model_type: object = None) -> str:
        """The model type of a section, "" where neither it nor this class tells."""
        return self.sections.get(key) or str(model_type or self.open_sections.get(key, ""))


NO_CLASS = ClassDefaults("no class")


def class_defaults(model_type: str) -> ClassDefaults:
    """The class of this model type; without defaults where transformers has none."""
    return _classes().get(model_type, NO_CLASS)


@cache
def _classes() -> Mapping[str, ClassDefaults]:
    text = files("kvplan.hf").joinpath("class_defaults.json").read_text(encoding="utf-8")
    rows: dict[str, dict[str, Any]] = json.loads(text)
    return {
        model_type: ClassDefaults(
            row["class"],
            row["defaults"],
            row.get("sections", {}),
            row.get("open_sections", {}),
            names=_other_names(row.get("aliases", {})),
            section_defaults=row.get("section_defaults", {}),
            nested_tie="nested_tie" in row,
            null_kv="null_kv" in row,
            since_5="since_5" in row,
            differs={key: _differ(values) for key, values in row.get("differs", {}).items()},
        )
        for model_type, row in rows.items()
    }


def _other_names(aliases: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Every name of a key to all others of the same key."""
    same: dict[str, list[str]] = {}
    for name, own in aliases.items():
        same.setdefault(own, [own]).append(name)
    return {
        name: tuple(other for other in names if other != name)
        for names in same.values()
        for name in names
    }


def _differ(values: Mapping[str, Any]) -> str:
    listed = ", ".join(f"{json.dumps(value)} in {release}" for release, value in values.items())
    return f"its default differs between releases of transformers: {listed}"
