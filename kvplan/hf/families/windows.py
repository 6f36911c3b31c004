"""Which layers slide, in every dialect of config.json."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kvplan.hf import geometry as geo
from kvplan.hf.config import Config, Figure, shown
from kvplan.hf.layers import FULL, MTP, SLIDING, Rule, agree, drafts, layer_types, one_full_in


@dataclass(frozen=True)
class WindowPlan:
    """The window of each layer in tokens, None where it is full; draft layers are as the first."""

    windows: Sequence[int | None]
    draft: int = 0


Windows = Callable[[Config, Figure], WindowPlan]
"""Reads the plan of so many layers. Raises RefusedError."""


def never(config: Config, layers: Figure) -> WindowPlan:
    """Full attention on every layer."""
    types = config.words("layer_types")
    if types is not None and set(types) != {FULL}:
        config.refuse("layer_types names other layers than full_attention")
    return WindowPlan([None] * layers, drafts(config, MTP))


def full(_: Config, layers: Figure) -> WindowPlan:
    """Full attention on every layer, in classes that know of nothing else."""
    return WindowPlan([None] * layers)


def always(config: Config, layers: Figure) -> WindowPlan:
    """``sliding_window`` on every layer where it is set."""
    size = geo.window(config)
    types = config.words("layer_types")
    if types is not None and set(types) != {SLIDING if size else FULL}:
        config.refuse("layer_types and sliding_window contradict each other")
    return WindowPlan([size] * layers, drafts(config, MTP))


def mixed(
    every: int | None = None, pattern: tuple[str, ...] = (), rule: Rule | None = None
) -> Windows:
    """``layer_types``, else a pattern key, else the class's rule (one full layer in ``every``)."""

    def read(config: Config, layers: Figure) -> WindowPlan:
        draft = drafts(config, MTP)
        # The class's pattern is for files without a list of their own.
        asked = pattern and (config.mentions(*pattern) or not config.has("layer_types"))
        given = pattern_rule(config, *pattern) if asked else None
        types = layer_types(
            config, layers, given or rule or (one_full_in(every) if every else None), draft
        )
        if given is not None:
            agree(config, pattern[0], types, given)
        return WindowPlan(by_name(config, types))

    return read


def by_name(config: Config, types: Sequence[str]) -> list[int | None]:
    """The window of each layer by its type; it has to be in the file where a layer slides."""
    for kind in types:
        if kind not in (FULL, SLIDING):
            known = f"{FULL}, {SLIDING}"
            config.refuse(f"a layer is of type {shown(kind)}; known for this family: {known}")
    config.ignore(*geo.WINDOW_KEYS)
    size = geo.needed_window(config) if SLIDING in types else None
    return [size if kind == SLIDING else None for kind in types]


def pattern_rule(config: Config, *keys: str) -> Rule | None:
    """Gemma's and Cohere's ``sliding_window_pattern``: a period, or EXAONE-4's "LLLG"."""
    key, value = config.value(*keys)
    if not key:
        return None
    if isinstance(value, str):
        if not value or set(value) - {"L", "G"}:
            config.refuse(f"{config.name(key)} is {shown(value)}; known are L and G")
        return lambda index: SLIDING if value[index % len(value)] == "L" else FULL
    if value == 0 and type(value) is int:  # Exaone4Config without a window
        return lambda _: FULL
    return one_full_in(config.within(key, value, 1, 1_000))


def after_full_layers(config: Config, layers: Figure) -> WindowPlan:
    """``use_sliding_window`` switches it after ``max_window_layers`` full layers (Qwen2Config)."""
    draft = drafts(config, MTP)
    if config.flag("use_sliding_window"):
        config.ignore(*geo.WINDOW_KEYS)
        start = config.count("max_window_layers", least=0)
        types = layer_types(config, layers, lambda index: SLIDING if index >= start else FULL)
        return WindowPlan(by_name(config, types))
    config.ignore("sliding_window")
    if set(layer_types(config, layers, lambda _: FULL)) != {FULL}:
        config.refuse("use_sliding_window is off, but layer_types names other layers")
    return WindowPlan([None] * layers, draft)


def unsettled(config: Config, layers: Figure) -> WindowPlan:
    """``use_sliding_window`` off as in all published files; on, classes differ on what slides.

    Qwen2MoeConfig windows every second of the first ``max_window_layers`` layers, Qwen3MoeConfig
    all layers, SmolLM3Config those with rotary embeddings, and vLLM 0.33.0 none of these.
    """
    if config.flag("use_sliding_window"):
        config.refuse("use_sliding_window is on; runtimes disagree on which layers then slide")
    return after_full_layers(config, layers)
