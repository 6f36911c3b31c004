"""What ``kvplan plan`` answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kvplan.errors import DOES_NOT_FIT
from kvplan.planner.budget import Budget
from kvplan.planner.solve import Plan
from kvplan.report import NOTHING, Column, Field, Report, Table, facts
from kvplan.units import gib, json_number, number
from kvplan.views.words import (
    UNKNOWN,
    caveats,
    estimates,
    gpu_record,
    layout_record,
    plural,
    shortfall,
)

BAR_WIDTH = 48
_MILLION = 10**6

BOUND = (
    "the decode floor is a bound and no prediction: active weights and caches read once at full "
    "bandwidth, nothing else"
)


def plan_report(plan: Plan) -> Report:
    """The answer of ``kvplan plan``; exit code 1 where the load does not fit."""
    record = _record(plan)
    return Report(
        command="plan",
        inputs=plan_inputs(plan),
        payload=record,
        records=[{"name": plan.spec.name, "layout": plan.layout.name, **record["per_gpu"]}],
        tables=(facts(plan.spec.name, _FACTS, plan), _budget_table(plan.budget)),
        warnings=plan_warnings(plan),
        notes=(*estimates([plan]), BOUND),
        exit_code=0 if plan.fits else DOES_NOT_FIT,
    )


def plan_inputs(plan: Plan) -> dict[str, Any]:
    """The question that a plan answers, what it left open filled in."""
    question = plan.question
    return {
        "model": plan.spec.name,
        "context_tokens": plan.context_tokens,
        "sequences": plan.sequences,
        "kv_cache_dtype": plan.budget.cache.kv_cache_dtype,
        "gpu": gpu_record(plan.gpu),
        "gpu_memory_utilization": question.gpu_memory_utilization,
        "kv_cache_memory_bytes": question.kv_cache_memory_bytes,
        "draft": question.draft,
        "price_per_gpu_hour": question.price_per_gpu_hour,
    }


def plan_warnings(plan: Plan) -> tuple[str, ...]:
    """Why it does not fit, and what has to be known of its figures."""
    problem = () if plan.fits else (shortfall(plan),)
    return tuple(f"{plan.spec.name}: {text}" for text in (*problem, *caveats(plan)))


def _record(plan: Plan) -> dict[str, Any]:
    return {
        "name": plan.spec.name,
        "layout": layout_record(plan.layout),
        "per_gpu": _per_gpu(plan.budget),
        "weights": [
            {"part": line.part, "shared_by": line.shared_by, "bytes": line.size_bytes}
            for line in plan.budget.weights
        ],
        "capacity": {
            "tokens": plan.tokens,
            "max_concurrency": None if plan.tokens is None else plan.max_concurrency,
            "fits": plan.fits,
            "max_context_tokens": plan.max_context_tokens,
            "max_sequences": plan.max_sequences,
        },
        "decode": {
            "read_bytes": plan.decode_read_bytes,
            "floor_seconds": plan.decode_floor_seconds,
            "tokens_per_second_bound": plan.tokens_per_second_bound,
            "basis": "formula",
        },
        "cost": _cost(plan),
        "engine": {"name": "none", "version": None},
    }


def _per_gpu(budget: Budget) -> dict[str, Any]:
    return {
        "memory_bytes": budget.memory_bytes,
        "allowed_bytes": budget.allowed_bytes,
        "weights_bytes": budget.weights_bytes,
        "overhead_bytes": budget.overhead_bytes,
        "overhead_basis": budget.overhead_basis,
        "kv_available_bytes": max(0, budget.room_bytes),
        "kv_bytes": budget.cache.total_bytes,
        "growing_bytes": budget.growing_bytes,
        "fixed_bytes": budget.fixed_bytes,
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


def _load(plan: Plan) -> str:
    verdict = "fits" if plan.fits else "DOES NOT FIT"
    return f"{plural(plan.sequences, 'sequence')} × {plan.context_tokens:,} tokens: {verdict}"


def _limit(value: int | None, of_what: str) -> str:
    return "memory does not bound it" if value is None else f"{value:,} {of_what}"


def _floor(plan: Plan) -> str:
    if not plan.decode_floor_seconds:
        return f"{UNKNOWN}: the bandwidth of {plan.gpu.name} is not known"
    bound = plan.tokens_per_second_bound or 0
    return (
        f"{1_000 * plan.decode_floor_seconds:,.2f} ms a step, at most {bound:,.0f} tokens/s; "
        f"{gib(plan.decode_read_bytes)} read a step"
    )


def _cost_in_words(plan: Plan) -> str:
    cost = _cost(plan)
    if cost is None:
        return ""
    share = cost["per_hour_per_million_tokens_held"]
    held = UNKNOWN if share is None else f"{share:,.2f} an hour for a million tokens held"
    return f"{cost['per_hour']:,.2f} an hour; {held}"


_FACTS: tuple[Field[Plan], ...] = (
    Field(
        "",
        lambda plan: f"{plan.layout.gpus} × {plan.gpu.name}, laid out as {plan.layout.name}",
        "GPUs",
    ),
    Field("", _load, "asked"),
    Field(
        "",
        lambda plan: _limit(plan.max_context_tokens, f"tokens for {plan.sequences:,}"),
        "longest context",
    ),
    Field(
        "",
        lambda plan: _limit(plan.max_sequences, f"of {plan.context_tokens:,} tokens"),
        "most sequences",
    ),
    Field(
        "",
        lambda plan: NOTHING if plan.tokens is None else f"{plan.tokens:,} in all",
        "tokens held",
    ),
    Field("", _floor, "decode floor"),
    Field("", _cost_in_words, "cost"),
)


def _budget_table(budget: Budget) -> Table:
    """One GPU's memory, line by line, with the mark that each has in the bar above."""
    lines = [
        ("weights", budget.weights_bytes, "█"),
        ("overhead", budget.overhead_bytes, "▒"),
        ("cache that grows", budget.growing_bytes, "▓"),
        ("windows and states", budget.fixed_bytes, "▚"),
        ("free", max(0, budget.free_bytes), "·"),
        ("not used (utilisation)", budget.memory_bytes - budget.allowed_bytes, " "),
    ]
    bar = _bar([(size, mark) for _, size, mark in lines], budget.memory_bytes)
    if budget.free_bytes < 0:
        lines.append(("MISSING", -budget.free_bytes, "!"))
    rows = [
        (name, number(size), gib(size), f"{100 * size / budget.memory_bytes:.1f}%", mark)
        for name, size, mark in lines
        if size
    ]
    rows.append(("GPU memory", number(budget.memory_bytes), gib(budget.memory_bytes), "100%", ""))
    columns = (
        Column("One GPU", "left"),
        Column("Bytes"),
        Column(""),
        Column("Share"),
        Column("Bar", "left"),
    )
    return Table(f"[{bar}]", columns, tuple(rows))


def _bar(lines: Sequence[tuple[int, str]], memory_bytes: int) -> str:
    """Each size as its share of the width; what is too much for the card runs out of it."""
    cells, covered = "", 0
    for size, mark in lines:
        covered += size
        cells += mark * (round(BAR_WIDTH * covered / memory_bytes) - len(cells))
    return cells[:BAR_WIDTH].ljust(BAR_WIDTH)
