"""What the classes of transformers take for keys that a config.json does not have.

``class_defaults.json`` is written by a program that reads the classes themselves
(tests/hf/sweep): for each model type the name of its class, its default of every key that a
reader here names, and the model types of its sections.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

TRANSFORMERS = "transformers 5.24.0"
"""The release whose classes these are."""


@dataclass(frozen=True)
class ClassDefaults:
    """The defaults of one class by key, null where it has none and works the figure out."""

    name: str
    values: Mapping[str, Any] = field(default_factory=dict)
    sections: Mapping[str, str] = field(default_factory=dict)
    """The class of a section by its model type, whatever the section itself says."""
    open_sections: Mapping[str, str] = field(default_factory=dict)
    """The same of sections that may say another, and mostly do."""
    differs: Mapping[str, str] = field(default_factory=dict)
    """Keys whose default is another in another release, with the words that say so."""

    @property
    def source(self) -> str:
        """Class and release."""
        return f"{self.name} ({TRANSFORMERS})"

    def first(self, *keys: str) -> str:
        """The first of these keys that the class has a default for, "" where none has one."""
        return next((key for key in keys if self.values.get(key) is not None), "")

    def section(self, key: str, model_type: object) -> ClassDefaults:
        """The class of a section, by its own model type or by what this class puts there."""
        return class_defaults(self.section_type(key, model_type))

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
            {key: _differ(values) for key, values in row.get("differs", {}).items()},
        )
        for model_type, row in rows.items()
    }


def _differ(values: Mapping[str, Any]) -> str:
    listed = ", ".join(f"{json.dumps(value)} in {release}" for release, value in values.items())
    return f"its default differs between releases of transformers: {listed}"
