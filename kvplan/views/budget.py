"""One GPU's memory line by line, and that of each pipeline stage where these differ."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

from kvplan.planner.budget import Budget
from kvplan.planner.plan import Plan
from kvplan.report import Bar, Column, Field, Share, Table, Tone, table
from kvplan.units import gib, number

_PARTS = {
    "all": "weights",
    "routed_experts": "routed experts",
    "shared_experts": "shared experts",
    "dense_mlp": "MLP",
    "attention": "attention",
    "attention_down": "latent projections",
    "recurrent": "recurrent layers",
    "lm_head": "output head",
    "embedding": "embedding",
    "vision": "vision tower",
    "audio": "audio tower",
    "draft": "draft layers",
    "router": "routers",
    "norm": "norms",
    "tables": "rotary tables",
    "absorbed": "16-bit copies of MLA's projections",
    "rounding": "rounding of the allocator",
    "device": "the HIP runtime and what stays with it",
}
_LINES = {"cuda graphs": "CUDA graphs", "nccl": "NCCL", "vision": "images of a step"}
_SMALL = 0.005
"""Share of a card below which a part of the weights stands in one line with others like it."""


class _Line(NamedTuple):
    """A line of the budget: its mark in the bar, how it is split over GPUs, its colour."""

    name: str
    size_bytes: int
    mark: str
    split: str = ""
    tone: Tone = ""


def budget_tables(plan: Plan) -> Iterator[Table]:
    """The GPU that decides, and the stages where there are several."""
    budget = plan.budget
    lines = [line for line in _lines(budget) if line.size_bytes]
    shares = [Share(line.mark, line.size_bytes) for line in lines]
    if not budget.fits:
        lines.append(_Line("MISSING", -budget.free_bytes, "!", tone="bad"))
        shares.append(Share("!", 0))
    lines.append(_Line("GPU memory", budget.memory_bytes, ""))
    where = "Each GPU" if plan.layout.pipeline == 1 else "Each GPU of the fullest stage"
    columns = (
        Column(where, "left"),
        Column("Bytes"),
        Column(""),
        Column("Share"),
        Column("Split", "left", rank=1),
    )
    whole_bytes = budget.memory_bytes if budget.fits else budget.allowed_bytes
    yield Table(
        "",
        columns,
        tuple(_row(line, budget) for line in lines),
        tones=tuple((line.tone,) * len(columns) for line in lines),
        bar=Bar(tuple(shares), whole_bytes),
    )
    yield from _stages(plan)


def _row(line: _Line, budget: Budget) -> tuple[str, ...]:
    size_bytes = line.size_bytes
    share = f"{100 * size_bytes / budget.memory_bytes:,.1f}%"
    return line.name, number(size_bytes), gib(size_bytes), share, line.split


def _lines(budget: Budget) -> Iterator[_Line]:
    assumed: Tone = "assumed" if budget.overhead_basis == "assumed" else ""
    yield from _weights(budget)
    yield _Line("draft weights", budget.draft_weights_bytes, "▆")
    yield _Line("LoRA slots", budget.lora_bytes, "▄")
    for line in budget.overhead_lines:
        between = f"{gib(line.low_bytes)} to {gib(line.high_bytes)}"
        yield _Line(_LINES.get(line.name, line.name), line.size_bytes, "▒", between, tone=assumed)
    if not budget.overhead_lines:
        yield _Line("overhead", budget.overhead_bytes, "▒", tone=assumed)
    yield _Line("cache that grows", budget.growing_bytes, "▓")
    yield _Line("windows and states", budget.fixed_bytes, "▚")
    yield _Line("draft cache", budget.draft_cache_bytes, "▞")
    yield _Line("blocks beyond the caches", budget.pages_bytes, "▤")
    yield _Line("free", max(0, budget.free_bytes), "·")
    if budget.fits:
        yield _Line("not used (utilisation)", budget.memory_bytes - budget.allowed_bytes, " ")


def _weights(budget: Budget) -> Iterator[_Line]:
    """The weights by part, the largest first; the small ones together."""
    lines = sorted(budget.weights, key=lambda line: -line.size_bytes)
    large = [line for line in lines if line.size_bytes >= _SMALL * budget.memory_bytes]
    small = lines[len(large) :]
    if len(small) == 1:
        large, small = lines, []
    for line in large:
        name = _PARTS.get(line.part, line.part)
        split = f"÷ {line.shared_by}" if line.shared_by > 1 else "copy"
        yield _Line(name, line.size_bytes, "█", split)
    if small:
        rest = sum(line.size_bytes for line in small)
        yield _Line("other weights" if large else "weights", rest, "█")


def _stages(plan: Plan) -> Iterator[Table]:
    budgets = plan.budgets
    if len({_sizes(budget) for budget in budgets}) > 1:
        numbered = enumerate(zip(budgets, plan.stage_layers, strict=True), start=1)
        runs = groupby(numbered, key=lambda item: (_sizes(item[1][0]), item[1][1]))
        yield table("Pipeline stages", _STAGE_FIELDS, [list(run) for _, run in runs])


def _sizes(budget: Budget) -> tuple[int, ...]:
    return budget.weights_bytes, budget.kv_bytes, budget.free_bytes


_Run = list[tuple[int, tuple[Budget, int]]]
"""Stages in a row that hold the same: each with its number, budget and layers."""


def _numbers(run: _Run) -> str:
    first, last = run[0][0], run[-1][0]
    return str(first) if first == last else f"{first}–{last}"


def _budget_of(run: _Run) -> Budget:
    return run[0][1][0]


def _free(run: _Run) -> str:
    free_bytes = _budget_of(run).free_bytes
    return gib(free_bytes) if free_bytes >= 0 else f"lacks {gib(-free_bytes)}"


_STAGE_FIELDS: tuple[Field[_Run], ...] = (
    Field("", _numbers, "Stage", align="left"),
    Field("", lambda run: run[0][1][1], "Layers"),
    Field("", lambda run: gib(_budget_of(run).weights_bytes), "Weights/GPU"),
    Field("", lambda run: gib(_budget_of(run).kv_bytes), "Cache/GPU"),
    Field("", _free, "Free/GPU", tone=lambda run: "bad" if _budget_of(run).free_bytes < 0 else ""),
)
