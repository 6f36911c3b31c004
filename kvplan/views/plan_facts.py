"""A plan's facts in words, one a line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kvplan.planner.plan import Plan
from kvplan.planner.runner_up import RunnerUp
from kvplan.report import NO_LIMIT, UNKNOWN, Field, Tone
from kvplan.units import gib, number, plural
from kvplan.views.pages import blocks_in_words, prints, requests_in_words, room_in_words
from kvplan.views.words import against, gpus_in_words, stages_in_words

_MILLION = 10**6


def cost(plan: Plan) -> dict[str, Any] | None:
    """What the GPUs cost an hour, where a price is given."""
    price = plan.question.price_per_gpu_hour
    if price is None:
        return None
    hourly = price * plan.layout.gpus
    return {
        "per_hour": hourly,
        "per_hour_per_million_tokens_held": (
            hourly / (plan.tokens / _MILLION) if plan.tokens else None
        ),
    }


@dataclass(frozen=True)
class PlanAnswer:
    """A plan and what is said beside it."""

    plan: Plan
    native: Plan | None
    runner: RunnerUp | None


def _longest(answer: PlanAnswer) -> str:
    plan, native = answer.plan, answer.plan.spec.native_context_tokens
    beyond = native and plan.max_context_tokens and plan.max_context_tokens > native
    mark = f", beyond the native {native:,}" if beyond else ""
    load = plural(plan.sequences, "sequence")
    return _limit(plan, plan.max_context_tokens, f"tokens for {load}{mark}")


def _most(answer: PlanAnswer) -> str:
    plan = answer.plan
    return _limit(plan, plan.max_sequences, f"of {plural(plan.context_tokens, 'token')}")


def _native(answer: PlanAnswer) -> str:
    native = answer.native
    if native is None or native.context_tokens <= answer.plan.context_tokens:
        return ""
    if not native.fits:
        return f"{native.context_tokens:,} tokens fit on no count that was tried"
    return f"{native.context_tokens:,} tokens need {gpus_in_words(native)}"


def _limit(plan: Plan, value: int | None, of_what: str) -> str:
    """A bound in words; nothing where not even the weights fit."""
    if value is None:
        return NO_LIMIT
    if not plan.budget.has_room:
        return ""
    return f"{value:,} {of_what}" if value else f"none {of_what}"


def _step(answer: PlanAnswer) -> str:
    plan = answer.plan
    if not plan.fits:
        return ""
    if plan.step is None:
        return f"{UNKNOWN}: the bandwidth of {plan.gpu.name} is not known"
    return (
        f"about {1_000 * plan.step.seconds:,.1f} ms, {plan.tokens_per_second or 0:,.0f} tokens/s; "
        f"never less than {1_000 * (plan.decode_floor_seconds or 0):,.1f} ms"
    )


def _assumed(_: PlanAnswer) -> Tone:
    return "assumed"


def _held(answer: PlanAnswer) -> str:
    plan = answer.plan
    if plan.tokens is None:
        return NO_LIMIT
    if not plan.budget.has_room:
        return ""
    return f"{plan.tokens:,} in sequences of {plan.context_tokens:,}"


def _weights(answer: PlanAnswer) -> str:
    """All parts of the weights on a GPU, and all GPUs' together where there are several."""
    plan = answer.plan
    here = gib(plan.budget.weights_bytes)
    if plan.layout.gpus == 1 or plan.spec.weights_bytes is None:
        return here
    return f"{here} on each GPU, {gib(plan.spec.weights_bytes)} in one copy"


def _stages(answer: PlanAnswer) -> str:
    """How the layers are split over pipeline stages, and by whose rule."""
    plan = answer.plan
    if plan.layout.pipeline == 1:
        return ""
    split = stages_in_words(plan.stage_layers)
    return f"{split} layers, {'as given' if plan.layout.partition else 'even, as vLLM splits them'}"


def _prints(answer: PlanAnswer) -> str:
    """The engine's own line, which each data-parallel rank prints for itself."""
    text, groups = prints(answer.plan), answer.plan.layout.sequence_groups
    return f"{text} (each of {groups:,} ranks)" if text and groups > 1 else text


def _drafter_in_words(answer: PlanAnswer) -> str:
    plan = answer.plan
    if plan.drafter is None:
        return ""
    packed, whole = plan.caches.drafter, plan.one_copy
    dtype = packed.kv_cache_dtype if packed else UNKNOWN
    return (
        f"{plan.drafter.spec.name}, {dtype} cache: "
        f"{number(whole.of_drafter.bytes_per_token)} of {number(whole.bytes_per_token)} B/token"
    )


def _lora_in_words(answer: PlanAnswer) -> str:
    lora = answer.plan.budget.lora
    if lora is None:
        return ""
    ends = (
        f" and {lora.vocabulary_bytes:,} B at embedding and head" if lora.vocabulary_bytes else ""
    )
    return f"{plural(lora.slots, 'slot')} of rank {lora.rank}: {lora.layer_bytes:,} B{ends} each"


def _host_in_words(answer: PlanAnswer) -> str:
    plan = answer.plan
    if plan.question.kv_offloading_bytes is None:
        return ""
    size = gib(plan.question.kv_offloading_bytes)
    if plan.host_tokens is None:
        return f"{size}, and nothing grows with a sequence"
    return f"{size} hold {plan.host_tokens:,} tokens at {number(plan.host_bytes_per_token)} B"


def _cost_in_words(answer: PlanAnswer) -> str:
    price = cost(answer.plan)
    if price is None:
        return ""
    share = price["per_hour_per_million_tokens_held"]
    held = UNKNOWN if share is None else f"{share:,.2f} an hour for a million tokens held"
    return f"{price['per_hour']:,.2f} an hour; {held}"


FACTS: tuple[Field[PlanAnswer], ...] = (
    Field("", _weights, "weights"),
    Field("", _stages, "pipeline stages"),
    Field("", _longest, "longest context"),
    Field("", _most, "most sequences"),
    Field("", _held, "tokens held"),
    Field("", lambda answer: room_in_words(answer.plan), "for caches", tone=_assumed),
    Field("", _prints, "prints"),
    Field("", lambda answer: blocks_in_words(answer.plan), "blocks"),
    Field("", lambda answer: requests_in_words(answer.plan), "shorter requests"),
    Field("", _drafter_in_words, "draft model"),
    Field("", _lora_in_words, "LoRA"),
    Field("", _host_in_words, "host memory"),
    Field("", _native, "native context"),
    Field("", _step, "decode step", tone=_assumed),
    Field(
        "",
        lambda answer: against(answer.runner, answer.plan) if answer.runner else "",
        "runner-up",
    ),
    Field("", _cost_in_words, "cost"),
)
