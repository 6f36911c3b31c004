"""What ``kvplan compare`` answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kvplan.errors import DOES_NOT_FIT
from kvplan.planner.compare import Comparison, Row
from kvplan.report import (
    NO_LIMIT,
    NOTHING,
    UNKNOWN,
    Answer,
    Field,
    Report,
    Tone,
    records,
    table,
)
from kvplan.spec import ModelSpec
from kvplan.units import gib, json_number, number, plural, ratio
from kvplan.views.beside import (
    beside_in_words,
    beside_record,
    gpu_caveats,
    host_notes,
    question_notes,
)
from kvplan.views.class_defaults import class_default_notes
from kvplan.views.notes import estimates
from kvplan.views.verdict import shortfall, tone_of
from kvplan.views.words import (
    by_text,
    cache_caveats,
    caveats,
    gpu_record,
    gpus_in_words,
    layout_record,
)

_BASIS = {"weights_bytes": "config", "gpu_count": "formula", "max_context_tokens": "formula"}


def compare_report(result: Comparison) -> Report:
    """The answer of ``kvplan compare``; exit code 1 where a model does not fit."""
    question, models = result.question, records(_FIELDS, result.rows)
    title = f"On {question.gpu.name} ({gib(question.gpu.memory_bytes)} each)"
    title += beside_in_words(question)
    texts = [(row.spec.name, text) for row in result.rows for text in _warnings(row)]
    drafter = (question.draft_model,) if question.draft_model else ()
    specs = (*(row.spec for row in result.rows), *drafter)
    return Report(
        command="compare",
        inputs=_inputs(result),
        payload={"models": models},
        records=models,
        answer=_answer(result),
        tables=(table(title, _FIELDS, result.rows),),
        warnings=(*gpu_caveats(question), *by_text(texts)),
        notes=(
            *question_notes(question),
            *estimates(row.plan for row in result.rows if row.plan),
            *host_notes(question),
            *class_default_notes(specs),
        ),
        exit_code=0 if result.fits else DOES_NOT_FIT,
    )


def _answer(result: Comparison) -> Answer:
    """Who keeps least, by how much, and who needs the fewest GPUs."""
    question, rows = result.question, result.rows
    load = f"{plural(question.sequences or 1, 'sequence')} × "
    load += plural(question.context_tokens or 1, "token")
    tone: Tone = "good" if result.fits else "bad"
    if len(rows) == 1:
        return Answer(f"{rows[0].spec.name} keeps {_kv(rows[0])} for {load}{_needs(rows)}.", tone)
    least, most = min(rows, key=_kv_bytes), max(rows, key=_kv_bytes)
    if _kv_bytes(least) == _kv_bytes(most):
        return Answer(f"All keep {_kv(least)} for {load}{_needs(rows)}.", tone)
    less = "less than"
    if _kv_bytes(least):
        less = f"{ratio(_kv_bytes(most) / _kv_bytes(least))}× less than"
    return Answer(
        f"{least.spec.name} keeps {_kv(least)} for {load}, {less} {most.spec.name} "
        f"({_kv(most)}){_needs(rows)}.",
        tone,
    )


def _kv_bytes(row: Row) -> int:
    return row.footprint.total_bytes


def _kv(row: Row) -> str:
    return gib(_kv_bytes(row))


def _needs(rows: Sequence[Row]) -> str:
    """The fewest GPUs of all rows, and the models that do not fit."""
    unfit = [row.spec.name for row in rows if row.nearest]
    lacking = f"; {', '.join(unfit)} does not fit" if len(unfit) == 1 else ""
    if len(unfit) > 1:
        lacking = f"; {len(unfit)} do not fit" if len(unfit) < len(rows) else "; none fits"
    fitting = [row.plan for row in rows if row.plan and row.plan.fits]
    if not fitting:
        return lacking
    if len(rows) == 1:
        return f" and needs {gpus_in_words(fitting[0])}"
    fewest = min(plan.layout.gpus for plan in fitting)
    those = [plan for plan in fitting if plan.layout.gpus == fewest]
    gpus = gpus_in_words(those[0]) if len(those) == 1 else f"{fewest} × {those[0].gpu.name}"
    if len(those) == len(rows):
        return f"; all need {gpus}"
    *names, last = (plan.spec.name for plan in those)
    who = f"{', '.join(names)} and {last} need" if names else f"{last} needs"
    return f"; {who} the fewest GPUs, {gpus}{lacking}"


def _inputs(result: Comparison) -> dict[str, Any]:
    question = result.question
    return {
        "models": [row.spec.name for row in result.rows],
        "context_tokens": question.context_tokens,
        "sequences": question.sequences,
        "kv_cache_dtype": question.kv_cache_dtype,
        **beside_record(question),
        "gpu": gpu_record(question.gpu),
        "gpus": question.layout.gpus if question.layout else question.gpus,
        "layout": layout_record(question.layout) if question.layout else None,
        "gpu_memory_utilization": question.gpu_memory_utilization,
        "kv_cache_memory_bytes": question.kv_cache_memory_bytes,
    }


def _warnings(row: Row) -> tuple[str, ...]:
    if row.plan is None:
        unknown = "weights are not known, so no GPU count (give parameters and weights in the spec)"
        return (*cache_caveats(row.spec, row.footprint, draft=row.footprint.draft), unknown)
    problem = () if row.plan.fits else (shortfall(row.plan),)
    return (*caveats(row.plan), *problem)


def _layer_count(spec: ModelSpec) -> str:
    if spec.cached_layers == spec.total_layers:
        return str(spec.total_layers)
    return f"{spec.cached_layers} of {spec.total_layers}"


def _attention(row: Row) -> tuple[str, ...]:
    return row.spec.attention_at(row.footprint.context_tokens)


def _fixed(row: Row) -> str:
    cache = row.footprint
    size_bytes = cache.fixed_bytes_per_sequence + cache.cross_attention_bytes_per_sequence
    return gib(size_bytes) if size_bytes else NOTHING


def _share_of_mha(row: Row) -> str:
    return NOTHING if row.mha_ratio is None else f"{ratio(100 * row.mha_ratio)}%"


def _against_first(row: Row) -> str:
    if not row.ratio_to_first:
        return NOTHING
    if row.ratio_to_first == 1:
        return "1×"
    if row.ratio_to_first < 1:
        return f"{ratio(1 / row.ratio_to_first)}× less"
    return f"{ratio(row.ratio_to_first)}× more"


def _weights(row: Row) -> str:
    return UNKNOWN if row.weights_bytes is None else gib(row.weights_bytes)


def _gpu_count(row: Row) -> str:
    if row.plan is None:
        return UNKNOWN
    return "no fit" if row.gpu_count is None else f"{row.gpu_count:,}"


def _tone(row: Row) -> Tone:
    return "unknown" if row.plan is None else tone_of(row.plan)


_LEAST = {"kv_bytes": "least cache", "gpu_count": "fewest GPUs"}


def _verdict(row: Row) -> str:
    """In what the model is the least of all, or what it lacks."""
    if row.nearest is not None:
        lacks = row.nearest.missing_bytes
        return f"lacks {gib(lacks)}" if lacks else "does not run at once"
    return ", ".join(_LEAST[what] for what in row.least)


def _layout(row: Row) -> dict[str, Any] | None:
    return layout_record(row.plan.layout, row.spec) if row.plan and row.plan.fits else None


def _nearest(row: Row) -> dict[str, Any] | None:
    if row.nearest is None:
        return None
    return {
        "layout": layout_record(row.nearest.layout, row.spec),
        "missing_bytes": row.nearest.missing_bytes,
    }


def _is_unbounded(row: Row) -> bool:
    return row.plan is not None and row.plan.max_context_tokens is None


def _longest(row: Row) -> str:
    if _is_unbounded(row):
        return NO_LIMIT
    if row.max_context_tokens is None:
        return UNKNOWN
    return f"{row.max_context_tokens:,}" if row.max_context_tokens else "none"


_FIELDS: tuple[Field[Row], ...] = (
    Field("name", lambda row: row.spec.name, "Model", align="left"),
    Field("source", lambda row: row.spec.source),
    Field(
        "attention",
        lambda row: list(_attention(row)),
        "Attention",
        lambda row: " + ".join(_attention(row)) or NOTHING,
        "left",
        rank=1,
    ),
    Field(
        "kv_cache_dtype", lambda row: row.footprint.kv_cache_dtype, "KV dtype", align="left", rank=6
    ),
    Field(
        "layers",
        lambda row: row.spec.total_layers,
        "Layers",
        lambda row: _layer_count(row.spec),
        rank=7,
    ),
    Field("cached_layers", lambda row: row.spec.cached_layers),
    Field("native_context_tokens", lambda row: row.spec.native_context_tokens),
    Field(
        "bytes_per_token",
        lambda row: json_number(row.footprint.bytes_per_token),
        "B/token",
        lambda row: number(row.footprint.bytes_per_token),
    ),
    Field(
        "draft_bytes_per_token",
        lambda row: json_number(row.footprint.of_drafter.bytes_per_token),
    ),
    Field(
        "fixed_bytes_per_sequence",
        lambda row: row.footprint.fixed_bytes_per_sequence,
        "Fixed/seq",
        _fixed,
        rank=2,
    ),
    Field(
        "cross_attention_bytes_per_sequence",
        lambda row: row.footprint.cross_attention_bytes_per_sequence,
    ),
    Field(
        "kv_bytes",
        lambda row: row.footprint.total_bytes,
        "KV cache",
        lambda row: gib(row.footprint.total_bytes),
    ),
    Field("mha_ratio", lambda row: row.mha_ratio, "of MHA", _share_of_mha, rank=5),
    Field("ratio_to_first", lambda row: row.ratio_to_first, "vs first", _against_first, rank=4),
    Field("weights_bytes", lambda row: row.weights_bytes, "Weights", _weights, rank=3),
    Field("gpu_count", lambda row: row.gpu_count, "GPUs", _gpu_count, tone=_tone),
    Field(
        "layout",
        _layout,
        "Layout",
        lambda row: row.plan.layout.name if row.gpu_count and row.plan else NOTHING,
        "left",
        rank=1,
    ),
    Field("nearest", _nearest),
    Field("max_context_tokens", lambda row: row.max_context_tokens, "Max ctx", _longest),
    Field("context_unbounded", _is_unbounded),
    Field("least", lambda row: list(row.least), "Verdict", _verdict, "left", rank=2, tone=_tone),
    Field("basis", lambda _: _BASIS),
    Field("warnings", lambda row: list(_warnings(row))),
)
