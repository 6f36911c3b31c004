"""What a GPU of each pipeline stage has loaded before the first cache: weights, adapters' slots."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from kvplan.calc import PackedCaches
from kvplan.errors import RefusedError
from kvplan.parallel import Layout
from kvplan.planner.drafter import drafter_weights
from kvplan.planner.lora import LoraSlots, lora_slots
from kvplan.question import Question
from kvplan.spec import ModelSpec
from kvplan.weights import StageLayers, WeightsLine


@dataclass(frozen=True)
class LoadedStage:
    """A pipeline stage and what one of its GPUs holds of weights and slots."""

    stage: ModelSpec
    weights: tuple[WeightsLine, ...]
    draft_weights: tuple[WeightsLine, ...]
    lora: LoraSlots | None
    own: StageLayers
    """What of the model's layers and ends it has."""

    @property
    def is_last(self) -> bool:
        """Whether nothing comes after it."""
        return self.own.last

    @property
    def sees(self) -> bool:
        """Whether a vision tower runs here, counted or not."""
        counted = any(line.part == "vision" for line in self.weights)
        return counted or any("vision" in part for part in self.stage.not_counted)

    @property
    def size_bytes(self) -> int:
        """All of it."""
        lines = (*self.weights, *self.draft_weights)
        return sum(line.size_bytes for line in lines) + (self.lora.size_bytes if self.lora else 0)


def loaded_stages(
    caches: PackedCaches, question: Question, layout: Layout
) -> tuple[LoadedStage, ...]:
    """Each pipeline stage of a model, with its drafter on the last; equal ones are one object.

    Raises RefusedError where weights are not known and the caches' room is not given, and where
    the slots of adapters cannot be counted.
    """
    spec = caches.spec
    if spec.weights_bytes is None and question.kv_cache_memory_bytes is None:
        raise RefusedError(
            f"the weights of {spec.name} are not known",
            "give parameters and weights in the spec, or the caches' room: kv_cache_memory_bytes",
        )
    stages: tuple[ModelSpec, ...] = (spec,)
    if layout.pipeline > 1:
        stages = spec.stages(layout.pipeline, layout.partition)
    loaded: dict[tuple[int, bool, bool], LoadedStage] = {}
    keys = [(id(stage), i == 0, i == len(stages) - 1) for i, stage in enumerate(stages)]
    for stage, key in zip(stages, keys, strict=True):
        if key not in loaded:
            _, first, last = key
            loaded[key] = _loaded(caches, question, layout, stage, first=first, last=last)
    return tuple(loaded[key] for key in keys)


def _loaded(
    caches: PackedCaches,
    question: Question,
    layout: Layout,
    stage: ModelSpec,
    *,
    first: bool,
    last: bool,
) -> LoadedStage:
    spec, layers = caches.spec, stage.total_layers
    own = StageLayers(layers, first, last, caches.draft)
    weights = question.accounting.weights(spec, layout, own, question, question.gpu)
    return LoadedStage(
        stage=stage,
        weights=weights,
        draft_weights=_drafter_weights(caches, question, layout) if last else (),
        lora=lora_slots(spec, question, layout, layers, first=first, last=last),
        own=own,
    )


def _drafter_weights(
    caches: PackedCaches, question: Question, layout: Layout
) -> tuple[WeightsLine, ...]:
    """None of a drafter whose weights are not known, where the caches' room is given."""
    if caches.drafter is None:
        return ()
    drafter = caches.drafter.spec
    if drafter.weights_bytes is None and question.kv_cache_memory_bytes is not None:
        return ()
    weights = partial(question.accounting.weights, settings=question, gpu=question.gpu)
    return drafter_weights(drafter, caches.spec, layout, weights)
