"""What ``kvplan layouts`` answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kvplan.errors import DOES_NOT_FIT
from kvplan.parallel import redundant_experts
from kvplan.planner.plan import Plan
from kvplan.report import NO_LIMIT, NOTHING, Answer, Field, Note, Report, Tone, records, table
from kvplan.units import gib, json_number, number, plural
from kvplan.views.beside import beside_in_words, host_notes, question_notes
from kvplan.views.class_defaults import plan_class_defaults
from kvplan.views.notes import routine
from kvplan.views.plan import plan_inputs, plan_warnings
from kvplan.views.verdict import verdict
from kvplan.views.words import layout_record

_MOST_ROWS = 20
"""Layouts that a terminal shows, the best first."""

_UNASKED = Note(
    "what is not chosen unasked",
    "pipeline stages are best only where nothing else fits, decode context parallelism and uneven "
    "experts only where asked for",
)


@dataclass(frozen=True)
class _Ranked:
    """A layout's plan, whether it is the best of all, and the next best of those like it."""

    plan: Plan
    best: bool
    next_tokens_per_second: float = 0.0

    @property
    def verdict(self) -> str:
        """What the last column says: why it is the best, or what speaks against it."""
        if self.plan.missing_bytes:
            return f"lacks {gib(self.plan.missing_bytes)}"
        faster = (self.plan.tokens_per_second or 0.0) > self.next_tokens_per_second
        best = ("best: fastest" if faster else "best") if self.best else ""
        return "; ".join(filter(None, (best, self.against)))

    @property
    def against(self) -> str:
        """Why a layout is not chosen unasked; nothing where it may be."""
        plan, layout = self.plan, self.plan.layout
        crossing = layout.crosses(plan.gpu.link_domain)
        against = {
            f"{crossing} crosses nodes": bool(crossing),
            "context parallel": layout.context > 1,
            "idle ranks": plan.has_idle_ranks,
            "uneven experts": redundant_experts(plan.spec, layout) > 0,
            "pipeline": layout.pipeline > 1,
        }
        return ", ".join(text for text, holds in against.items() if holds)

    @property
    def tone(self) -> Tone:
        """What its colour says."""
        if self.best:
            return "good"
        return "" if self.plan.fits else "bad"


def layouts_report(plans: Sequence[Plan]) -> Report:
    """The answer of ``kvplan layouts``: the best first; exit code 1 where none fits."""
    first = plans[0]
    rows = _ranked(plans)
    layouts = records(_FIELDS, rows)
    title = (
        f"{first.spec.name} on {first.layout.gpus} × {first.gpu.name}, "
        f"{first.context_tokens:,} tokens a sequence, {first.budget.cache.kv_cache_dtype} cache"
        f"{beside_in_words(first.question)}"
    )
    unasked = (_UNASKED,) if first.step else ()
    return Report(
        command="layouts",
        inputs=plan_inputs(first) | {"gpus": first.layout.gpus},
        payload={"name": first.spec.name, "layouts": layouts},
        records=layouts,
        answer=_answer(plans),
        tables=(table(title, _FIELDS, rows, _MOST_ROWS),),
        warnings=plan_warnings(first),
        notes=(
            *question_notes(first.question),
            *routine(first),
            *unasked,
            *host_notes(first.question),
            *plan_class_defaults([first]),
        ),
        exit_code=0 if first.fits else DOES_NOT_FIT,
    )


def _ranked(plans: Sequence[Plan]) -> list[_Ranked]:
    first, *others = plans
    rows = [_Ranked(plan, best=False) for plan in others]
    rivals = [row.plan.tokens_per_second or 0.0 for row in rows if not row.against]
    return [_Ranked(first, first.fits, max(rivals, default=0.0)), *rows]


def _answer(plans: Sequence[Plan]) -> Answer:
    """Which layout is the best of how many, and what it gives."""
    first = plans[0]
    if not first.fits:
        return verdict(first)
    held = "any number of tokens" if first.tokens is None else f"{first.tokens:,} tokens"
    speed = first.tokens_per_second
    rate = f", an estimated {speed:,.0f} tokens/s" if speed else ""
    gpus = f"{first.layout.gpus} × {first.gpu.name}"
    fitting = sum(plan.fits for plan in plans)
    return Answer(
        f"{first.layout.name} is best for {first.spec.name} on {gpus}: holds {held}{rate}; "
        f"{fitting:,} of {plural(len(plans), 'layout')} fit."
    )


def _degree(key: str) -> Field[_Ranked]:
    return Field(key, lambda row: layout_record(row.plan.layout)[key])


def _or_any(value: Any) -> str:
    return NO_LIMIT if value is None else f"{value:,}"


_FIELDS: tuple[Field[_Ranked], ...] = (
    Field("best", lambda row: row.best),
    Field(
        "layout",
        lambda row: row.plan.layout.name,
        "Layout",
        align="left",
        tone=lambda row: row.tone,
    ),
    _degree("gpus"),
    _degree("tensor_parallel"),
    _degree("pipeline_parallel"),
    _degree("data_parallel"),
    _degree("decode_context_parallel"),
    _degree("replicas"),
    _degree("expert_parallel"),
    Field("pipeline_layers", lambda row: list(row.plan.stage_layers)),
    Field(
        "weights_bytes",
        lambda row: row.plan.budget.weights_bytes,
        "Weights/GPU",
        lambda row: gib(row.plan.budget.weights_bytes),
        rank=2,
    ),
    Field("draft_weights_bytes", lambda row: row.plan.budget.draft_weights_bytes),
    Field("lora_bytes", lambda row: row.plan.budget.lora_bytes),
    Field(
        "kv_available_bytes",
        lambda row: max(0, row.plan.budget.room_bytes),
        "Cache room/GPU",
        lambda row: gib(max(0, row.plan.budget.room_bytes)),
        rank=4,
    ),
    Field(
        "bytes_per_token",
        lambda row: json_number(row.plan.budget.cache.bytes_per_token),
        "B/token/GPU",
        lambda row: number(row.plan.budget.cache.bytes_per_token),
        rank=5,
    ),
    Field(
        "draft_bytes_per_token",
        lambda row: json_number(row.plan.budget.cache.of_drafter.bytes_per_token),
    ),
    Field(
        "tokens", lambda row: row.plan.tokens, "Tokens held", lambda row: _or_any(row.plan.tokens)
    ),
    Field(
        "max_sequences",
        lambda row: row.plan.max_sequences,
        "Sequences",
        lambda row: _or_any(row.plan.max_sequences),
        rank=1,
    ),
    Field("max_context_tokens", lambda row: row.plan.max_context_tokens),
    Field(
        "step_seconds",
        lambda row: row.plan.step and row.plan.step.seconds,
        "Decode step",
        lambda row: f"{1_000 * row.plan.step.seconds:,.1f} ms" if row.plan.step else NOTHING,
        rank=3,
        tone=lambda _: "assumed",
    ),
    Field(
        "tokens_per_second",
        lambda row: row.plan.tokens_per_second,
        "Tokens/s",
        lambda row: f"{row.plan.tokens_per_second:,.0f}" if row.plan.tokens_per_second else NOTHING,
        tone=lambda _: "assumed",
    ),
    Field("decode_floor_seconds", lambda row: row.plan.decode_floor_seconds),
    Field("crosses", lambda row: row.plan.layout.crosses(row.plan.gpu.link_domain)),
    Field("missing_bytes", lambda row: row.plan.missing_bytes),
    Field(
        "fits",
        lambda row: row.plan.fits,
        "Verdict",
        lambda row: row.verdict,
        "left",
        tone=lambda row: row.tone,
    ),
)
