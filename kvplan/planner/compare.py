"""Models beside one another: what each keeps, and the plan of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

from kvplan.calc import Footprint
from kvplan.dtypes import resolved_format
from kvplan.errors import UsageError
from kvplan.multi_head import as_full_attention, multi_head_footprint
from kvplan.planner.drafter import packed_caches, serve_drafter
from kvplan.planner.plan import Plan
from kvplan.planner.solve import solve
from kvplan.question import Question
from kvplan.spec import ModelSpec


@dataclass(frozen=True)
class Row:
    """One model of a comparison; sizes in bytes, of one copy of the whole model.

    ``plan`` is None where the weights are not known. Ratios are None where they would be to
    nothing.
    """

    spec: ModelSpec
    footprint: Footprint
    multi_head: Footprint | None
    ratio_to_first: float | None
    plan: Plan | None
    least: tuple[str, ...] = ()
    """Figures in which this row is below all that are not the same: kv_bytes, gpu_count."""

    @property
    def mha_ratio(self) -> float | None:
        """The model's own cache over that of full multi-head attention; None without attention."""
        if self.multi_head is None or not self.multi_head.total_bytes:
            return None
        return float(Fraction(self.footprint.own.total_bytes, self.multi_head.total_bytes))

    @property
    def weights_bytes(self) -> int | None:
        """Bytes of the weights as they are served; None where they are not known."""
        return (self.plan.spec if self.plan else self.spec).weights_bytes

    @property
    def gpu_count(self) -> int | None:
        """GPUs that hold the load; None where none do, or the weights are not known."""
        return self.plan.layout.gpus if self.plan and self.plan.fits else None

    @property
    def max_context_tokens(self) -> int | None:
        """The longest context for the load's sequences on the plan's GPUs.

        None where memory does not bound it, or the weights are not known.
        """
        return self.plan.max_context_tokens if self.plan else None

    @property
    def nearest(self) -> Plan | None:
        """Where nothing fits, the plan that lacks least."""
        return self.plan if self.plan and not self.plan.fits else None


@dataclass(frozen=True)
class Comparison:
    """Rows in the order asked for, and the question that they answer."""

    rows: tuple[Row, ...]
    question: Question

    @property
    def fits(self) -> bool:
        """Whether every model with known weights fits."""
        return not any(row.nearest for row in self.rows)


def compare(question: Question) -> Comparison:
    """Each model of the question with its cache, whole, and its plan.

    Raises UsageError where the question has no context, KvplanError for a model, dtype or layout
    that cannot be answered.
    """
    if question.context_tokens is None:
        raise UsageError("a comparison needs context_tokens")
    asked = replace(question, sequences=question.sequences or 1)
    plans = [_plan(spec, asked) for spec in asked.models]
    packed = [
        plan.caches if plan else packed_caches(spec, asked, serve_drafter(asked, spec))
        for spec, plan in zip(asked.models, plans, strict=True)
    ]
    whole = [caches.footprint(question.context_tokens, asked.sequences or 1) for caches in packed]
    first_bytes = whole[0].total_bytes
    rows = [
        Row(
            spec=spec,
            footprint=cache,
            multi_head=multi_head_footprint(spec, cache.own),
            ratio_to_first=float(Fraction(cache.total_bytes, first_bytes)) if first_bytes else None,
            plan=plan,
        )
        for spec, cache, plan in zip(asked.models, whole, plans, strict=True)
    ]
    return Comparison(tuple(_with_least(rows)), asked)


def _with_least(rows: list[Row]) -> Iterator[Row]:
    """The rows, each with the figures in which others are above it and none below."""
    figures: dict[str, list[int | None]] = {
        "kv_bytes": [row.footprint.total_bytes for row in rows],
        "gpu_count": [row.gpu_count for row in rows],
    }
    for index, row in enumerate(rows):
        least = []
        for name, values in figures.items():
            known = [value for value in values if value is not None]
            if values[index] is not None and values[index] == min(known) < max(known):
                least.append(name)
        yield replace(row, least=tuple(least))


def _plan(spec: ModelSpec, question: Question) -> Plan | None:
    if spec.weights_bytes is None and question.kv_cache_memory_bytes is None:
        return None
    return solve(spec, question)


def variants(spec: ModelSpec, kv_cache_dtype: str = "auto") -> list[ModelSpec]:
    """One model with multi-head attention, eight KV heads, one KV head, and as it is.

    All four name the KV dtype that is meant as their own, so that they are compared in one: a
    layout made for latents stands beside plain keys and values of the same bits. A model whose
    heads do not divide by eight goes without that variant. Raises UsageError for a model without
    attention.
    """
    dtype = resolved_format(spec, kv_cache_dtype)
    designs = [_variant(spec, "MHA", None), _variant(spec, "GQA-8", 8), _variant(spec, "MQA", 1)]
    if designs[0] is None:
        raise UsageError(f"{spec.name} has no attention to draw variants of")
    plain = [
        replace(variant, kv_cache_dtype=dtype.for_keys_and_values)
        for variant in designs
        if variant is not None
    ]
    return [*plain, replace(spec, kv_cache_dtype=dtype.name)]


def _variant(spec: ModelSpec, label: str, kv_heads: int | None) -> ModelSpec | None:
    try:
        variant = as_full_attention(spec, kv_heads)
    except UsageError:
        return None
    return None if variant is None else replace(variant, name=f"as {label}")
