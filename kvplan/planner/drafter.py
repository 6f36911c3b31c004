"""A second model beside the first: a drafter with weights and caches of its own.

As vLLM 0.33.0 serves one (config/speculative.py, v1/spec_decode): in the model's dtype, over the
model's tensor-parallel group (draft_tensor_parallel_size is the model's unless 1 is asked for), on
the last pipeline stage, a copy of it for each data-parallel rank.
"""

from __future__ import annotations

from collections.abc import Callable

from kvplan.calc import PackedCaches, pack
from kvplan.errors import RefusedError
from kvplan.parallel import Layout, check_layout
from kvplan.planner.layouts import is_possible
from kvplan.planner.served import DTYPES, Served, serve
from kvplan.question import Question
from kvplan.spec import ModelSpec
from kvplan.weights import StageLayers, WeightsLine, weights_on_rank

EMBEDDING = "embedding"

StageWeights = Callable[[ModelSpec, Layout, StageLayers], tuple[WeightsLine, ...]]
"""How an engine lays weights out on a GPU of a stage."""


def serve_drafter(question: Question, spec: ModelSpec) -> Served | None:
    """The question's draft model in the dtype in which ``spec`` is served; None without one."""
    if question.draft_model is None:
        return None
    dtype = next(name for name, own in DTYPES.items() if own == spec.dtype)
    return serve(question.draft_model, dtype, None, question.gpu.compute_capability)


def packed_caches(spec: ModelSpec, question: Question, drafter: Served | None) -> PackedCaches:
    """The caches of a model as it is served, and those of its drafter beside them.

    The drafter's KV dtype is its own: what it is asked to be, else its own ``auto``. Raises
    KvplanError as ``calc.pack`` does.
    """
    beside = question.beside
    caches = pack(spec, question.kv_cache_dtype, beside, draft=question.draft)
    if drafter is None:
        return caches
    return caches.beside(pack(drafter.spec, question.draft_kv_cache_dtype, beside))


def drafter_layout(drafter: ModelSpec, layout: Layout) -> Layout:
    """How a drafter lies on the GPUs of a stage: over the tensor group alone.

    vLLM 0.33.0 config/speculative.py, create_draft_parallel_config: one stage, no data parallelism,
    whole experts only where it has any.
    """
    whole = layout.expert_parallel and drafter.has_routed_experts and layout.tensor > 1
    return Layout(layout.tensor, context=layout.context, expert_parallel=whole)


def check_drafter(drafter: ModelSpec, layout: Layout) -> None:
    """Raises KvplanError where a drafter cannot be laid out over these GPUs."""
    check_layout(drafter, drafter_layout(drafter, layout))


def suits_drafter(drafter: ModelSpec, layout: Layout) -> bool:
    """Whether a drafter can be laid out over these GPUs."""
    return is_possible(drafter, drafter_layout(drafter, layout))


def drafter_weights(
    drafter: ModelSpec, spec: ModelSpec, layout: Layout, weights: StageWeights = weights_on_rank
) -> tuple[WeightsLine, ...]:
    """Weights of a drafter on a GPU of the last pipeline stage.

    A drafter without an embedding of its own (EAGLE) reads the model's; with pipeline stages that
    one lies on the first, and vLLM 0.33.0 loads it once more (v1/spec_decode/llm_base_proposer.py,
    _maybe_share_embeddings). Raises RefusedError where its weights are not known.
    """
    if drafter.weights_bytes is None:
        raise RefusedError(
            f"the weights of {drafter.name}, the draft model, are not known",
            "give parameters and weights in its spec, or the caches' room: kv_cache_memory_bytes",
        )
    stage = StageLayers(drafter.total_layers)
    own = weights(drafter, drafter_layout(drafter, layout), stage)
    if layout.pipeline == 1 or any(line.part in (EMBEDDING, "all") for line in own):
        return own
    shared = weights(spec, layout, StageLayers(0, first=True, last=False))
    return (*own, *(line for line in shared if line.part == EMBEDDING))
