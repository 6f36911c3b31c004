"""What ``kvplan plan`` answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kvplan.errors import DOES_NOT_FIT
from kvplan.planner.budget import Budget
from kvplan.planner.plan import Plan
from kvplan.planner.runner_up import RunnerUp
from kvplan.planner.weights import WeightsLine
from kvplan.report import NO_LIMIT, UNKNOWN, Field, Report, Tone, facts
from kvplan.units import gib, json_number, number, plural
from kvplan.views.beside import beside_record, gpu_caveats, question_notes
from kvplan.views.budget import budget_tables
from kvplan.views.class_defaults import plan_class_defaults
from kvplan.views.notes import routine, topology
from kvplan.views.verdict import verdict
from kvplan.views.words import (
    against,
    caveats,
    gpu_record,
    gpus_in_words,
    layout_record,
    stages_in_words,
)

_MILLION = 10**6


def plan_report(plan: Plan, native: Plan | None = None, runner: RunnerUp | None = None) -> Report:
    """The answer of ``kvplan plan``; exit code 1 where the load does not fit.

    ``native`` is the plan for the model's native context, where the question left it open.
    """
    record = _record(plan, native, runner)
    answer = _Answer(plan, native, runner)
    return Report(
        command="plan",
        inputs=plan_inputs(plan),
        payload=record,
        records=[_row(plan_inputs(plan), record)],
        answer=verdict(plan),
        tables=(facts("", _FACTS, answer), *budget_tables(plan)),
        warnings=plan_warnings(plan),
        notes=(
            *question_notes(plan.question),
            *routine(plan),
            *plan_class_defaults([plan]),
        ),
        exit_code=0 if plan.fits else DOES_NOT_FIT,
    )


def plan_inputs(plan: Plan) -> dict[str, Any]:
    """The question that a plan answers, what it left open filled in."""
    question = plan.question
    return {
        "model": plan.spec.name,
        "context_tokens": plan.context_tokens,
        "sequences": plan.sequences,
        "dtype": plan.spec.dtype,
        "quantization": question.quantization,
        "kv_cache_dtype": plan.budget.cache.kv_cache_dtype,
        **beside_record(question),
        "max_num_seqs": question.max_num_seqs,
        "gpu": gpu_record(plan.gpu),
        "gpu_memory_utilization": question.gpu_memory_utilization,
        "kv_cache_memory_bytes": question.kv_cache_memory_bytes,
        "price_per_gpu_hour": question.price_per_gpu_hour,
    }


def plan_warnings(plan: Plan) -> tuple[str, ...]:
    """What has to be known of a plan's figures."""
    texts = (*caveats(plan), *topology(plan))
    return (*gpu_caveats(plan.question), *(f"{plan.spec.name}: {text}" for text in texts))


def _record(plan: Plan, native: Plan | None, runner: RunnerUp | None) -> dict[str, Any]:
    return {
        "name": plan.spec.name,
        "native_context_tokens": plan.spec.native_context_tokens,
        "layout": layout_record(plan.layout, plan.spec),
        "runner_up": runner
        and {"layout": layout_record(runner.plan.layout, plan.spec), "reason": runner.reason},
        "native": native
        and {
            "context_tokens": native.context_tokens,
            "fits": native.fits,
            "layout": layout_record(native.layout, plan.spec),
        },
        "per_gpu": _per_gpu(plan.budget),
        "weights": _weights_by_part(plan.budget.weights),
        "one_copy_weights_bytes": plan.spec.weights_bytes,
        "stages": _stage_records(plan),
        "draft_model": _drafter(plan),
        "lora": _lora(plan.budget),
        "host": _host(plan),
        "weights_basis": plan.served.basis,
        "not_counted": list(plan.not_counted),
        "capacity": {
            "tokens": plan.tokens,
            "max_concurrency": None if plan.tokens is None else plan.max_concurrency,
            "fits": plan.fits,
            "max_context_tokens": plan.max_context_tokens,
            "max_sequences": plan.max_sequences,
        },
        "decode": _decode(plan),
        "cost": _cost(plan),
        "engine": {"name": plan.question.engine, "version": None},
    }


def _stage_records(plan: Plan) -> list[dict[str, int]]:
    return [
        {
            "layers": layers,
            "weights_bytes": budget.weights_bytes,
            "kv_bytes": budget.kv_bytes,
            "free_bytes": budget.free_bytes,
        }
        for layers, budget in zip(plan.stage_layers, plan.budgets, strict=True)
    ]


def _row(inputs: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    """The question and the answer as one row, weights by part and stages by number."""
    drafter = record["draft_model"]
    row = {"name": record["name"]} | inputs | record | _columns_of_weights(record["weights"])
    del row["model"]  # the name
    if drafter is not None:
        row["draft_model"] = drafter | _columns_of_weights(drafter["weights"])
    row["stages"] = dict(enumerate(record["stages"], start=1))
    return row


def _columns_of_weights(lines: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "weights": {line["part"]: line["bytes"] for line in lines},
        "weights_shared_by": {line["part"]: line["shared_by"] for line in lines},
    }


def _weights_by_part(lines: tuple[WeightsLine, ...]) -> list[dict[str, Any]]:
    return [
        {"part": line.part, "shared_by": line.shared_by, "bytes": line.size_bytes} for line in lines
    ]


def _drafter(plan: Plan) -> dict[str, Any] | None:
    """The draft model on the GPU that decides; on other stages it has nothing."""
    if plan.drafter is None:
        return None
    budget, whole = plan.budget, plan.one_copy
    cache, packed = budget.cache.of_drafter, plan.caches.drafter
    return {
        "name": plan.drafter.spec.name,
        "source": plan.drafter.spec.source,
        "kv_cache_dtype": packed and packed.kv_cache_dtype,
        "bytes_per_token": json_number(cache.bytes_per_token),
        "fixed_bytes_per_sequence": cache.fixed_bytes_per_sequence,
        "kv_bytes": cache.total_bytes,
        "weights_bytes": budget.draft_weights_bytes,
        "weights": _weights_by_part(budget.draft_weights),
        "one_copy_bytes_per_token": json_number(whole.of_drafter.bytes_per_token),
        "model_bytes_per_token": json_number(budget.cache.own.bytes_per_token),
    }


def _lora(budget: Budget) -> dict[str, Any] | None:
    lora = budget.lora
    if lora is None:
        return None
    return {
        "max_loras": lora.slots,
        "max_lora_rank": lora.rank,
        "bytes_per_slot": lora.layer_bytes,
        "vocabulary_bytes_per_slot": lora.vocabulary_bytes,
        "bytes": lora.size_bytes,
        "basis": "formula",
    }


def _host(plan: Plan) -> dict[str, Any] | None:
    if plan.question.kv_offloading_bytes is None:
        return None
    return {
        "kv_offloading_bytes": plan.question.kv_offloading_bytes,
        "bytes_per_token": json_number(plan.host_bytes_per_token),
        "tokens": plan.host_tokens,
    }


def _decode(plan: Plan) -> dict[str, Any]:
    return {
        "step_seconds": plan.step and plan.step.seconds,
        "communication_seconds": plan.step and plan.step.communication_seconds,
        "tokens_per_second": plan.tokens_per_second,
        "basis": "assumed",
        "least_read_bytes": plan.decode_read_bytes,
        "floor_seconds": plan.decode_floor_seconds,
        "tokens_per_second_bound": plan.tokens_per_second_bound,
    }


def _per_gpu(budget: Budget) -> dict[str, Any]:
    return {
        "memory_bytes": budget.memory_bytes,
        "allowed_bytes": budget.allowed_bytes,
        "weights_bytes": budget.weights_bytes,
        "draft_weights_bytes": budget.draft_weights_bytes,
        "lora_bytes": budget.lora_bytes,
        "overhead_bytes": budget.overhead_bytes,
        "overhead_basis": budget.overhead_basis,
        "kv_available_bytes": max(0, budget.room_bytes),
        "kv_bytes": budget.kv_bytes,
        "growing_bytes": budget.growing_bytes,
        "fixed_bytes": budget.fixed_bytes,
        "draft_kv_bytes": budget.draft_cache_bytes,
        "bytes_per_token": json_number(budget.cache.bytes_per_token),
        "bytes_per_page": None,
        "page_tokens": None,
        "pages": None,
        "free_bytes": budget.free_bytes,
    }


def _cost(plan: Plan) -> dict[str, Any] | None:
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
class _Answer:
    """A plan and what is said beside it."""

    plan: Plan
    native: Plan | None
    runner: RunnerUp | None


def _longest(answer: _Answer) -> str:
    plan, native = answer.plan, answer.plan.spec.native_context_tokens
    beyond = native and plan.max_context_tokens and plan.max_context_tokens > native
    mark = f", beyond the native {native:,}" if beyond else ""
    load = plural(plan.sequences, "sequence")
    return _limit(plan, plan.max_context_tokens, f"tokens for {load}{mark}")


def _most(answer: _Answer) -> str:
    plan = answer.plan
    return _limit(plan, plan.max_sequences, f"of {plural(plan.context_tokens, 'token')}")


def _native(answer: _Answer) -> str:
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


def _step(answer: _Answer) -> str:
    plan = answer.plan
    if not plan.fits:
        return ""
    if plan.step is None:
        return f"{UNKNOWN}: the bandwidth of {plan.gpu.name} is not known"
    return (
        f"about {1_000 * plan.step.seconds:,.1f} ms, {plan.tokens_per_second or 0:,.0f} tokens/s; "
        f"never less than {1_000 * (plan.decode_floor_seconds or 0):,.1f} ms"
    )


def _assumed(_: _Answer) -> Tone:
    return "assumed"


def _held(answer: _Answer) -> str:
    plan = answer.plan
    if plan.tokens is None:
        return NO_LIMIT
    if not plan.budget.has_room:
        return ""
    return f"{plan.tokens:,} in sequences of {plan.context_tokens:,}"


def _weights(answer: _Answer) -> str:
    """All parts of the weights on a GPU, and all GPUs' together where there are several."""
    plan = answer.plan
    here = gib(plan.budget.weights_bytes)
    if plan.layout.gpus == 1 or plan.spec.weights_bytes is None:
        return here
    return f"{here} on each GPU, {gib(plan.spec.weights_bytes)} in one copy"


def _stages(answer: _Answer) -> str:
    """How the layers are split over pipeline stages, and by whose rule."""
    plan = answer.plan
    if plan.layout.pipeline == 1:
        return ""
    split = stages_in_words(plan.stage_layers)
    return f"{split} layers, {'as given' if plan.layout.partition else 'even, as vLLM splits them'}"


def _drafter_in_words(answer: _Answer) -> str:
    plan = answer.plan
    if plan.drafter is None:
        return ""
    packed, whole = plan.caches.drafter, plan.one_copy
    dtype = packed.kv_cache_dtype if packed else UNKNOWN
    return (
        f"{plan.drafter.spec.name}, {dtype} cache: "
        f"{number(whole.of_drafter.bytes_per_token)} of {number(whole.bytes_per_token)} B/token"
    )


def _lora_in_words(answer: _Answer) -> str:
    lora = answer.plan.budget.lora
    if lora is None:
        return ""
    ends = (
        f" and {lora.vocabulary_bytes:,} B at embedding and head" if lora.vocabulary_bytes else ""
    )
    return f"{plural(lora.slots, 'slot')} of rank {lora.rank}: {lora.layer_bytes:,} B{ends} each"


def _host_in_words(answer: _Answer) -> str:
    plan = answer.plan
    if plan.question.kv_offloading_bytes is None:
        return ""
    size = gib(plan.question.kv_offloading_bytes)
    if plan.host_tokens is None:
        return f"{size}, and nothing grows with a sequence"
    return f"{size} hold {plan.host_tokens:,} tokens at {number(plan.host_bytes_per_token)} B"


def _cost_in_words(answer: _Answer) -> str:
    cost = _cost(answer.plan)
    if cost is None:
        return ""
    share = cost["per_hour_per_million_tokens_held"]
    held = UNKNOWN if share is None else f"{share:,.2f} an hour for a million tokens held"
    return f"{cost['per_hour']:,.2f} an hour; {held}"


_FACTS: tuple[Field[_Answer], ...] = (
    Field("", _weights, "weights"),
    Field("", _stages, "pipeline stages"),
    Field("", _longest, "longest context"),
    Field("", _most, "most sequences"),
    Field("", _held, "tokens held"),
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
