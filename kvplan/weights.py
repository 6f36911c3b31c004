"""Weights of one GPU by arithmetic: which parts are split over it, spread over more, or copied."""

from __future__ import annotations

from dataclasses import dataclass

from kvplan.parallel import Layout, heads_on_rank
from kvplan.spec import ModelSpec
from kvplan.stored import Part
from kvplan.units import ceil_div

# Kept whole on every GPU of a stage: routers and norms are small, MLA's projections into the
# latents and the indexer's are replicated as their caches are (vLLM 0.33.0 models/deepseek_v2.py),
# and of "other" (latent expert projections, hyper-connections) nobody has said that it is split.
COPIED: frozenset[Part] = frozenset({"attention_down", "router", "norm", "indexer", "other"})
_FIRST_STAGE: frozenset[Part] = frozenset({"embedding", "vision", "audio"})
_LAST_STAGE: frozenset[Part] = frozenset({"lm_head"})


@dataclass(frozen=True)
class WeightsLine:
    """Bytes of one part on one GPU, and of how many GPUs it takes a share (1: a copy).

    ``part`` is one of a spec's, ``all``, ``draft``, or an engine's own: ``tables`` of rotary
    positions, ``absorbed`` copies of MLA's matrices, ``rounding`` of the allocator.
    """

    part: str
    shared_by: int
    size_bytes: int
    assumes: str | None = None
    """What these bytes rest on that neither the model's files nor an engine's source say."""


@dataclass(frozen=True)
class StageLayers:
    """What a pipeline stage has of a model: so many layers, and its ends; all of it by default."""

    count: int
    first: bool = True
    last: bool = True
    draft: bool = False
    """Whether the model's own draft (MTP) layers are served, which are on the last stage."""


def weights_on_rank(spec: ModelSpec, layout: Layout, stage: StageLayers) -> tuple[WeightsLine, ...]:
    """Weights of a GPU of this stage.

    Routed experts are spread over all GPUs that share them, whole experts or slices of each;
    everything else is split over the tensor-parallel group, the projections of fewer KV heads than
    GPUs as far as one head each. A stage's share of the layers' weights is its share of the layers.
    Draft (MTP) layers are in a line of their own.
    """
    lines = []
    for part, loaded_bytes in spec.loaded_bytes.items():
        here, in_layers = on_stage(part, stage)
        if not here:
            continue
        size_bytes = loaded_bytes
        if in_layers and stage.count != spec.total_layers:
            size_bytes = ceil_div(loaded_bytes * stage.count, spec.total_layers)
        share = share_bytes(spec, part, layout, size_bytes)
        lines.append(WeightsLine(part, shared_by(part, layout), share))
    if stage.draft and stage.last and spec.draft_weights:
        parts = spec.loaded_draft_bytes.items()
        size_bytes = sum(share_bytes(spec, part, layout, whole) for part, whole in parts)
        lines.append(WeightsLine("draft", layout.tensor, size_bytes))
    return tuple(lines)


def share_bytes(spec: ModelSpec, part: str, layout: Layout, size_bytes: int) -> int:
    """What the fullest GPU holds of a part of so many bytes."""
    held, even = _fullest_share(spec, part, layout)
    return ceil_div(size_bytes * held, even * shared_by(part, layout))


def on_stage(part: str, stage: StageLayers) -> tuple[bool, bool]:
    """Whether the part is on this stage at all, and whether it lies in the layers."""
    if part in _FIRST_STAGE:
        return stage.first, False
    if part in _LAST_STAGE:
        return stage.last, False
    return True, True


def shared_by(part: str, layout: Layout) -> int:
    """GPUs that take a share of the part; 1 where each has a copy."""
    if part in COPIED:
        return 1
    if part == "routed_experts":
        return layout.stage_gpus
    return layout.tensor


def _fullest_share(spec: ModelSpec, part: str, layout: Layout) -> tuple[int, int]:
    """What the fullest GPU has over an even share: whole experts, and KV heads, may not divide."""
    if part == "routed_experts" and layout.expert_parallel and spec.routed_experts:
        gpus = shared_by(part, layout)
        return ceil_div(spec.routed_experts, gpus) * gpus, spec.routed_experts
    return _kv_copies(spec, layout) if part == "attention" and layout.tensor > 1 else (1, 1)


def _kv_copies(spec: ModelSpec, layout: Layout) -> tuple[int, int]:
    """Elements of attention on all GPUs of a tensor group over those of the model.

    Where there are fewer KV heads than GPUs, each GPU holds one head's projections (vLLM 0.33.0
    layers/linear.py, QKVParallelLinear). Elements are those of queries, output, keys and values
    for each column of the hidden size. An output gate, and lightning attention in the same part,
    are not in them: with these the copies are a little less than counted here.
    """
    even = held = 0
    for kind, _, layers in spec.caches():
        multi_head = kind.as_full_attention(None)
        if multi_head is None or kind.query_heads() is None:
            continue
        kv = [slot for slot in kind.slots() if slot.split == "replicate"]
        divided = sum(slot.heads * slot.width for slot in multi_head.slots())
        even += layers * (divided + sum(slot.heads * slot.width for slot in kv))
        on_rank = sum(heads_on_rank(slot, layout.tensor) * slot.width for slot in kv)
        held += layers * (divided + on_rank * layout.tensor)
    return (held, even) if even else (1, 1)


def active_experts(spec: ModelSpec) -> float:
    """Share of the routed experts' parameters that one token uses; 0 where it is not known."""
    rows = [row for row in spec.weights if row.part == "routed_experts"]
    packed = any(row.what == "packed" for row in rows)
    if spec.parameters is None or spec.parameters.active is None or packed:
        return 0.0
    routed = sum(row.elements for row in rows if row.what is None)
    idle = spec.parameters.of_language - spec.parameters.active
    return max(0.0, 1 - idle / routed) if routed else 1.0


def hidden_size(spec: ModelSpec) -> int:
    """Width of what passes from layer to layer; from the norms, two a layer, where not given.

    4,096 where the weights name no norms either.
    """
    norms = sum(row.elements for row in spec.weights if row.part == "norm" and row.what is None)
    return spec.hidden_size or norms // (2 * spec.total_layers + 1) or 4_096
