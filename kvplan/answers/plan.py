"""What ``kvplan plan`` and ``kvplan layouts`` answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kvplan.answers.words import NOTHING, UNKNOWN, gpu_basis, plural
from kvplan.comparison import cache_warnings
from kvplan.errors import DOES_NOT_FIT
from kvplan.planning import Budget, Plan
from kvplan.report import Column, Report, Table
from kvplan.spec import Gpu
from kvplan.units import gib, json_number, number

BAR_WIDTH = 48
_MILLION = 10**6

BOUND = (
    "the decode floor is a bound and no prediction: active weights and caches read once at full "
    "bandwidth, nothing else"
)


def _estimate(gpu: Gpu) -> str:
    """What the overhead rests on where nobody gave it."""
    process = "765 MiB a process as measured on an H100"
    if gpu.process_bytes:
        process = f"{gib(gpu.process_bytes)} a process as measured on this card"
    return (
        f"activations, CUDA graphs and the process are an estimate: {process}, and 2% of the "
        "card; --overhead takes the measured figure"
    )


def plan_report(found: Plan, price_per_gpu_hour: float | None = None) -> Report:
    """The answer of ``kvplan plan``; exit code 1 where the workload does not fit."""
    record = _plan_record(found, price_per_gpu_hour)
    return Report(
        command="plan",
        inputs=_inputs(found, price_per_gpu_hour),
        payload=record,
        records=[{"name": found.spec.name, "layout": found.layout.name, **record["per_gpu"]}],
        tables=(_summary(found, price_per_gpu_hour), _budget_table(found.budget)),
        warnings=_warnings(found),
        notes=(*estimates(found), BOUND),
        exit_code=0 if found.fits else DOES_NOT_FIT,
    )


def layouts_report(plans: Sequence[Plan]) -> Report:
    """The answer of ``kvplan layouts``: the best first; exit code 1 where none fits."""
    records = [
        {"best": index == 0 and each.fits, **_layout_record(each)}
        for index, each in enumerate(plans)
    ]
    first = plans[0]
    return Report(
        command="layouts",
        inputs=_inputs(first, None) | {"gpus": first.layout.gpus},
        payload={"name": first.spec.name, "layouts": records},
        records=records,
        tables=(_layouts_table(plans),),
        warnings=_warnings(first) if first.fits else (),
        notes=estimates(first),
        exit_code=0 if first.fits else DOES_NOT_FIT,
    )


def estimates(found: Plan) -> tuple[str, ...]:
    """What has to be said of the plan's overhead; nothing where it was given."""
    return (_estimate(found.gpu),) if found.budget.overhead_basis == "assumed" else ()


def _inputs(found: Plan, price: float | None) -> dict[str, Any]:
    work, settings = found.work, found.settings
    return {
        "model": found.spec.name,
        "context_tokens": work.context_tokens,
        "sequences": work.sequences,
        "kv_cache_dtype": found.budget.cache.kv_cache_dtype,
        "gpu": {
            "name": found.gpu.name,
            "memory_bytes": found.gpu.memory_bytes,
            "basis": gpu_basis(found.gpu),
            "rates_basis": found.gpu.rates_basis,
        },
        "gpu_memory_utilization": settings.utilization,
        "kv_cache_memory_bytes": settings.kv_cache_memory_bytes,
        "draft": work.draft,
        "price_per_gpu_hour": price,
    }


def _plan_record(found: Plan, price: float | None) -> dict[str, Any]:
    per_gpu = _per_gpu(found.budget)
    return {
        "name": found.spec.name,
        "layout": _layout_keys(found),
        "per_gpu": per_gpu,
        "weights": [
            {"part": line.part, "shared_by": line.shared_by, "bytes": line.size_bytes}
            for line in found.budget.weights
        ],
        "capacity": {
            "tokens": found.tokens,
            "max_concurrency": None if found.tokens is None else found.max_concurrency,
            "fits": found.fits,
            "max_context_tokens": found.max_context_tokens,
            "max_sequences": found.max_sequences,
        },
        "decode": {
            "read_bytes": found.decode_read_bytes,
            "floor_seconds": found.decode_floor_seconds,
            "tokens_per_second_bound": found.tokens_per_second_bound,
            "basis": "formula",
        },
        "cost": _cost(found, price),
        "engine": {"name": "none", "version": None},
    }


def _layout_keys(found: Plan) -> dict[str, Any]:
    where = found.layout
    return {
        "name": where.name,
        "gpus": where.gpus,
        "tensor_parallel": where.tensor,
        "pipeline_parallel": where.pipeline,
        "replicas": where.replicas,
        "data_parallel_attention": where.attention_groups,
        "decode_context_parallel": where.context,
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


def _layout_record(found: Plan) -> dict[str, Any]:
    return {
        "layout": found.layout.name,
        **{key: value for key, value in _layout_keys(found).items() if key != "name"},
        "weights_bytes": found.budget.weights_bytes,
        "kv_available_bytes": max(0, found.budget.room_bytes),
        "bytes_per_token": json_number(found.budget.cache.bytes_per_token),
        "tokens": found.tokens,
        "max_sequences": found.max_sequences,
        "max_context_tokens": found.max_context_tokens,
        "decode_floor_seconds": found.decode_floor_seconds,
        "fits": found.fits,
    }


def _cost(found: Plan, price: float | None) -> dict[str, Any] | None:
    if price is None:
        return None
    hourly = price * found.layout.gpus
    held = found.tokens
    return {
        "per_hour": hourly,
        "per_hour_per_million_tokens_held": hourly / (held / _MILLION) if held else None,
    }


def _warnings(found: Plan) -> tuple[str, ...]:
    remedy = () if found.fits else (_remedy(found),)
    return tuple(f"{found.spec.name}: {text}" for text in (*remedy, *caveats(found)))


def caveats(found: Plan) -> tuple[str, ...]:
    """What has to be known of the figures of this plan before they are believed."""
    spec, budget = found.spec, found.budget
    told = list(cache_warnings(spec, budget.cache, draft=found.work.draft))
    if any(row.part is None for row in spec.weights):
        told.append("the spec names no parts of the weights: all are split evenly")
    return tuple(told)


def _remedy(found: Plan) -> str:
    budget, work = found.budget, found.work
    needed = budget.cache.total_bytes
    problem = (
        f"does not fit in {found.layout.name} on {found.gpu.name}: caches need {gib(needed)} a GPU "
        f"and have {gib(max(0, budget.room_bytes))}"
    )
    if budget.room_bytes <= 0:
        given = found.settings.kv_cache_memory_bytes
        taken = f", overhead and the given {gib(given)}" if given else " and overhead alone"
        return f"{problem}: weights{taken} take more; use more GPUs or a smaller dtype"
    changes = []
    if found.max_context_tokens:
        changes.append(f"{found.max_context_tokens:,} tokens for {plural(work.sequences)}")
    if found.max_sequences:
        changes.append(f"{plural(found.max_sequences)} of {work.context_tokens:,} tokens")
    would = f"; what fits: {', or '.join(changes)}" if changes else ""
    return f"{problem}{would}; or more GPUs, or --kv-cache-dtype fp8"


def _summary(found: Plan, price: float | None) -> Table:
    work = found.work
    verdict = "fits" if found.fits else "DOES NOT FIT"
    facts = [
        ("GPUs", f"{found.layout.gpus} × {found.gpu.name}, laid out as {found.layout.name}"),
        ("asked", f"{plural(work.sequences)} × {work.context_tokens:,} tokens: {verdict}"),
        ("longest context", _limit(found.max_context_tokens, f"tokens for {work.sequences:,}")),
        ("most sequences", _limit(found.max_sequences, f"of {work.context_tokens:,} tokens")),
        ("tokens held", NOTHING if found.tokens is None else f"{found.tokens:,} in all"),
        ("decode floor", _floor(found)),
    ]
    cost = _cost(found, price)
    if cost is not None:
        each = cost["per_hour_per_million_tokens_held"]
        held = UNKNOWN if each is None else f"{each:,.2f} an hour for a million tokens held"
        facts.append(("cost", f"{cost['per_hour']:,.2f} an hour; {held}"))
    columns = (Column("Fact", "left"), Column("Value", "left"))
    return Table(found.spec.name, columns, tuple(facts), headed=False)


def _limit(value: int | None, of_what: str) -> str:
    return "memory does not bound it" if value is None else f"{value:,} {of_what}"


def _floor(found: Plan) -> str:
    if not found.decode_floor_seconds:
        return f"{UNKNOWN}: the bandwidth of {found.gpu.name} is not known"
    bound = found.tokens_per_second_bound or 0
    return (
        f"{1_000 * found.decode_floor_seconds:,.2f} ms a step, at most {bound:,.0f} tokens/s; "
        f"{gib(found.decode_read_bytes)} read a step"
    )


def _budget_table(budget: Budget) -> Table:
    lines = [
        ("weights", budget.weights_bytes, "█"),
        ("overhead", budget.overhead_bytes, "▒"),
        ("cache that grows", budget.growing_bytes, "▓"),
        ("windows and states", budget.fixed_bytes, "▚"),
        ("free", max(0, budget.free_bytes), "·"),
        ("not used (utilisation)", budget.memory_bytes - budget.allowed_bytes, " "),
    ]
    rows = [
        (name, number(size), gib(size), f"{100 * size / budget.memory_bytes:.1f}%", mark)
        for name, size, mark in lines
        if size
    ]
    if budget.free_bytes < 0:
        missing = -budget.free_bytes
        share = f"{100 * missing / budget.memory_bytes:.1f}%"
        rows.append(("MISSING", number(missing), gib(missing), share, "!"))
    rows.append(("GPU memory", number(budget.memory_bytes), gib(budget.memory_bytes), "100%", ""))
    columns = (
        Column("One GPU", "left"),
        Column("Bytes"),
        Column(""),
        Column("Share"),
        Column("Bar", "left"),
    )
    bar = _bar([(size, mark) for _, size, mark in lines], budget.memory_bytes)
    return Table(f"[{bar}]", columns, tuple(rows))


def _bar(lines: Sequence[tuple[int, str]], whole: int) -> str:
    """Each size as its share of the width; what is too much for the card runs out of it."""
    cells, covered = "", 0
    for size, mark in lines:
        covered += size
        cells += mark * (round(BAR_WIDTH * covered / whole) - len(cells))
    return cells[:BAR_WIDTH].ljust(BAR_WIDTH)


def _layouts_table(plans: Sequence[Plan]) -> Table:
    first = plans[0]
    columns = (
        Column("Layout", "left"),
        Column("Weights/GPU"),
        Column("Cache room/GPU"),
        Column("B/token/GPU"),
        Column("Tokens held"),
        Column("Sequences"),
        Column("", "left"),
    )
    rows = tuple(
        (
            each.layout.name,
            gib(each.budget.weights_bytes),
            gib(max(0, each.budget.room_bytes)),
            number(each.budget.cache.bytes_per_token),
            "any" if each.tokens is None else f"{each.tokens:,}",
            "any" if each.max_sequences is None else f"{each.max_sequences:,}",
            ("best" if index == 0 else "") if each.fits else "no fit",
        )
        for index, each in enumerate(plans)
    )
    dtype = first.budget.cache.kv_cache_dtype
    title = (
        f"{first.spec.name} on {first.layout.gpus} × {first.gpu.name}, "
        f"{first.work.context_tokens:,} tokens a sequence, {dtype} cache"
    )
    return Table(title, columns, rows)
