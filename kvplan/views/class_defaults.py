"""What is said of figures that are a class's default and not a file's own word."""

from __future__ import annotations

import json
from collections.abc import Iterable

from kvplan.planner.plan import Plan
from kvplan.report import Note
from kvplan.spec import ClassDefault, ModelSpec


def class_default_notes(specs: Iterable[ModelSpec]) -> tuple[Note, ...]:
    """A note for each model, once: the keys that its file leaves out, each with the figure."""
    notes = (
        Note("", f"{spec.name}: {_said(spec.class_defaults)}")
        for spec in specs
        if spec.class_defaults
    )
    return tuple(dict.fromkeys(notes))


_FEW = 4
"""Keys that are named on the screen; all of them are in JSON and in ``kvplan import``."""


def few_keys(defaults: Iterable[ClassDefault]) -> str:
    """The keys without their sections, the first ones where there are many."""
    keys = list(dict.fromkeys(default.key.rpartition(".")[2] for default in defaults))
    if len(keys) <= _FEW:
        return ", ".join(keys)
    return f"{', '.join(keys[: _FEW - 1])} and {len(keys) - _FEW + 1} more"


def plan_class_defaults(plans: Iterable[Plan]) -> tuple[Note, ...]:
    """The same of the models of plans and of what drafts for them."""
    served = (held for plan in plans for held in (plan.served, plan.drafter) if held is not None)
    return class_default_notes(held.spec for held in served)


def _said(defaults: Iterable[ClassDefault]) -> str:
    """Not in its file, but the defaults of LlamaConfig (transformers 5.24.0): head_dim = 128."""
    keys: dict[str, list[str]] = {}
    for default in defaults:
        value = default.value if isinstance(default.value, str) else json.dumps(default.value)
        keys.setdefault(default.source, []).append(f"{default.key} = {value}")
    classes = (f"the defaults of {source}: {', '.join(named)}" for source, named in keys.items())
    return f"not in its file, but {'; '.join(classes)}"
