"""What is said of figures that are a class's default and not a file's own word."""

from __future__ import annotations

import json
from collections.abc import Iterable

from kvplan.planner.solve import Plan
from kvplan.spec import ClassDefault, ModelSpec


def class_default_notes(specs: Iterable[ModelSpec]) -> tuple[str, ...]:
    """A note for each model, once: the keys that its file leaves out, each with the figure."""
    notes = (f"{spec.name}: {_said(spec.class_defaults)}" for spec in specs if spec.class_defaults)
    return tuple(dict.fromkeys(notes))


def plan_class_defaults(plans: Iterable[Plan]) -> tuple[str, ...]:
    """The same of the models of plans and of what drafts for them."""
    plans = tuple(plans)
    drafters = (plan.drafter.spec for plan in plans if plan.drafter is not None)
    return class_default_notes((*(plan.spec for plan in plans), *drafters))


def _said(defaults: Iterable[ClassDefault]) -> str:
    """Not in its file, but the defaults of LlamaConfig (transformers 5.24.0): head_dim = 128."""
    keys: dict[str, list[str]] = {}
    for default in defaults:
        value = default.value if isinstance(default.value, str) else json.dumps(default.value)
        keys.setdefault(default.source, []).append(f"{default.key} = {value}")
    classes = (f"the defaults of {source}: {', '.join(named)}" for source, named in keys.items())
    return f"not in its file, but {'; '.join(classes)}"
