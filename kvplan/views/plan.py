"""What ``kvplan plan`` answers."""

from __future__ import annotations

from typing import Any

from kvplan.errors import DOES_NOT_FIT
from kvplan.planner.budget import Budget
from kvplan.planner.plan import Plan
from kvplan.planner.runner_up import RunnerUp
from kvplan.report import Report, facts
from kvplan.units import json_number
from kvplan.views.beside import beside_record, gpu_caveats, question_notes
from kvplan.views.budget import budget_tables
from kvplan.views.class_defaults import plan_class_defaults
from kvplan.views.notes import routine, topology
from kvplan.views.pages import (
    bytes_per_token,
    capacity_basis,
    overhead_records,
    page_warnings,
    per_gpu_pages,
    prints,
    request_records,
    state_sequences,
    tokens_range,
    waste_table,
)
from kvplan.views.plan_facts import FACTS, PlanAnswer, cost
from kvplan.views.verdict import verdict
from kvplan.views.words import (
    caveats,
    gpu_record,
    layout_record,
)
from kvplan.weights import WeightsLine


def plan_report(plan: Plan, native: Plan | None = None, runner: RunnerUp | None = None) -> Report:
    """The answer of ``kvplan plan``; exit code 1 where the load does not fit.

    ``native`` is the plan for the model's native context, where the question left it open.
    """
    record = _record(plan, native, runner)
    answer = PlanAnswer(plan, native, runner)
    return Report(
        command="plan",
        inputs=plan_inputs(plan),
        payload=record,
        records=[_row(plan_inputs(plan), record)],
        answer=verdict(plan),
        tables=(facts("", FACTS, answer), *budget_tables(plan), *waste_table(plan)),
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
    texts = (*caveats(plan), *topology(plan), *page_warnings(plan))
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
        "per_gpu": {
            **_per_gpu(plan.budget),
            "bytes_per_token": bytes_per_token(plan),
            **per_gpu_pages(plan),
        },
        "weights": _weights_by_part(plan.budget.weights),
        "one_copy_weights_bytes": plan.spec.weights_bytes,
        "stages": _stage_records(plan),
        "draft_model": _drafter(plan),
        "lora": _lora(plan.budget),
        "host": _host(plan),
        "weights_basis": plan.served.basis,
        "not_counted": list(plan.not_counted),
        "capacity": _capacity(plan),
        "decode": _decode(plan),
        "cost": cost(plan),
        "engine": {
            "name": plan.engine.name,
            "version": plan.engine.version,
            "prints": prints(plan) or None,
        },
    }


def _capacity(plan: Plan) -> dict[str, Any]:
    return {
        "tokens": plan.tokens,
        "max_concurrency": None if plan.tokens is None else plan.max_concurrency,
        "basis": capacity_basis(plan),
        "tokens_range": tokens_range(plan),
        "fits": plan.fits,
        "max_context_tokens": plan.max_context_tokens,
        "max_sequences": plan.max_sequences,
        "requests": request_records(plan),
        "state_sequences": state_sequences(plan),
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
        {
            "part": line.part,
            "shared_by": line.shared_by,
            "bytes": line.size_bytes,
            **({"basis": "assumed"} if line.assumes else {}),
        }
        for line in lines
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
        "overhead": overhead_records(budget),
        "kv_available_bytes": max(0, budget.room_bytes),
        "kv_available_range_bytes": [max(0, size) for size in budget.room_range],
        "kv_bytes": budget.kv_bytes,
        "growing_bytes": budget.growing_bytes,
        "fixed_bytes": budget.fixed_bytes,
        "draft_kv_bytes": budget.draft_cache_bytes,
        "free_bytes": budget.free_bytes,
    }
