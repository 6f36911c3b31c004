"""Which layer is of which type: the lists, patterns and rules that say so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from kvplan.errors import RefusedError
from kvplan.hf.blocks.base import Layer
from kvplan.hf.config import MAX_LAYERS, Config, ContradictionError, Figure, UncountedError, shown

FULL, SLIDING, LINEAR = "full_attention", "sliding_attention", "linear_attention"
MTP = "num_nextn_predict_layers"

Rule = Callable[[int], str]
"""The type of layer ``i`` where the file names none: a default of the transformers class."""


def layer_count(config: Config, *keys: str) -> Figure:
    """Number of layers."""
    return config.count(*(keys or ("num_hidden_layers",)), most=MAX_LAYERS)


def drafts(config: Config, *keys: str) -> int:
    """Layers of the multi-token-prediction head, which no layer count includes."""
    return config.maybe(*keys, least=0, most=64) or 0


def by_type(
    config: Config, types: Sequence[str], blocks: Mapping[str, Callable[[], Layer]]
) -> tuple[Layer, ...]:
    """Each layer's blocks by the name of its type.

    A type that no layer is of is read for its keys alone: the family knows them, and whatever they
    say changes nothing.
    """
    known: dict[str, Layer] = {}
    taken = dict(config.taken)
    for kind in blocks.keys() - set(types):
        with suppress(RefusedError, UncountedError, ContradictionError):
            blocks[kind]()
    config.taken.clear()
    config.taken.update(taken)
    for kind in types:
        if kind not in blocks:
            names = ", ".join(blocks)
            config.refuse(f"a layer is of type {shown(kind)}; known for this family: {names}")
        if kind not in known:
            known[kind] = blocks[kind]()
    return tuple(known[kind] for kind in types)


def layer_types(config: Config, layers: int, rule: Rule | None, draft: int = 0) -> Sequence[str]:
    """``layer_types`` one a layer, else the family's rule for a file that gives none.

    Some files list draft layers at the end (Step-3.5): these are left out.
    """
    types = config.words("layer_types")
    if types is not None and draft and len(types) == layers + draft:
        types = types[:layers]
    types_given = config.per_layer("layer_types", types, layers)
    if types_given is not None:
        return types_given
    if rule is None:
        config.missing("layer_types")
    ruled = [rule(index) for index in range(layers)]
    config.take("layer_types", counted(ruled))
    return ruled


def counted(types: Iterable[str]) -> str:
    """How many layers are of each type: "3 sliding_attention, 2 full_attention"."""
    return ", ".join(f"{count} {kind}" for kind, count in Counter(types).items())


def only(config: Config, key: str, types: Iterable[str], *known: str) -> None:
    """Refuses where the list of ``key`` names anything but these."""
    for kind in types:
        if kind not in known:
            config.refuse(f"{config.name(key)} names {shown(kind)}; known: {', '.join(known)}")


def agree(config: Config, key: str, types: Sequence[str], rule: Rule) -> None:
    """Refuses where the pattern that ``key`` gives and the layer types differ."""
    if any(rule(index) != kind for index, kind in enumerate(types)):
        config.refuse(f"{config.name('layer_types')} and {config.name(key)} contradict each other")


def one_full_in(period: int, other: str = "sliding_attention") -> Rule:
    """Every ``period``-th layer is full attention, counted from one."""
    return lambda index: other if (index + 1) % period else "full_attention"


def zero_or_one(config: Config, key: str, value: int) -> bool:
    """A flag of a per-layer list that is written as a number."""
    if value not in (0, 1):
        config.refuse(f"{config.name(key)} holds {shown(value)}; known are 0 and 1")
    return value == 1
