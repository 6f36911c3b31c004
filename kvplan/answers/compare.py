"""What ``kvplan compare`` answers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kvplan.answers.words import NOTHING, UNKNOWN, gpu_basis, plural
from kvplan.comparison import Comparison, Row
from kvplan.errors import DOES_NOT_FIT
from kvplan.fit import BASIS
from kvplan.report import Column, Report, Table
from kvplan.spec import ModelSpec
from kvplan.units import gib, json_number, number, ratio


def compare_report(result: Comparison) -> Report:
    """The answer of ``kvplan compare``; exit code 1 where a model does not fit."""
    records = [_compare_record(row) for row in result.rows]
    warnings = _by_text((row.spec.name, text) for row in result.rows for text in row.warnings)
    return Report(
        command="compare",
        inputs=_compare_inputs(result),
        payload={"models": records},
        records=records,
        tables=(_compare_table(result),),
        warnings=(*result.warnings, *warnings),
        notes=(BASIS,),
        exit_code=0 if result.fits else DOES_NOT_FIT,
    )


def _by_text(warnings: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Each warning once, after the names of all models that it is about."""
    names: dict[str, list[str]] = {}
    for name, text in warnings:
        names.setdefault(text, []).append(name)
    return tuple(f"{', '.join(models)}: {text}" for text, models in names.items())


def _compare_inputs(result: Comparison) -> dict[str, Any]:
    return {
        "models": [row.spec.name for row in result.rows],
        "context_tokens": result.work.context_tokens,
        "sequences": result.work.sequences,
        "kv_cache_dtype": result.work.kv_cache_dtype,
        "draft": result.work.draft,
        "gpu": {
            "name": result.gpu.name,
            "memory_bytes": result.gpu.memory_bytes,
            "basis": gpu_basis(result.gpu),
        },
        "gpus": result.asked.gpus if result.asked else None,
        "tensor_parallel": result.asked.tensor if result.asked else None,
    }


def _compare_record(row: Row) -> dict[str, Any]:
    whole = row.footprint
    return {
        "name": row.spec.name,
        "source": row.spec.source,
        "attention": list(row.attention),
        "layers": row.spec.total_layers,
        "cached_layers": row.spec.cached_layers,
        "native_context_tokens": row.spec.native_context_tokens,
        "kv_cache_dtype": whole.kv_cache_dtype,
        "bytes_per_token": json_number(whole.bytes_per_token),
        "fixed_bytes_per_sequence": whole.fixed_bytes_per_sequence,
        "cross_attention_bytes_per_sequence": whole.cross_attention_bytes_per_sequence,
        "kv_bytes": whole.total_bytes,
        "mha_ratio": row.mha_ratio,
        "ratio_to_first": row.ratio_to_first,
        "weights_bytes": row.spec.weights_bytes,
        "gpu_count": row.gpu_count,
        "tensor_parallel": row.layout.tensor if row.layout else None,
        "max_context_tokens": row.max_context_tokens,
        "context_unbounded": row.context_unbounded,
        "basis": {
            "weights_bytes": "config",
            "gpu_count": "formula",
            "max_context_tokens": "formula",
        },
        "warnings": list(row.warnings),
    }


def _compare_table(result: Comparison) -> Table:
    work, gpu = result.work, result.gpu
    sequences = plural(work.sequences)
    columns = (
        Column("Model", "left"),
        Column("Attention", "left"),
        Column("KV dtype", "left"),
        Column("Layers"),
        Column("B/token"),
        Column("Fixed/seq"),
        Column("KV cache", part=1),
        Column("of MHA", part=1),
        Column("vs first", part=1),
        Column("Weights", part=1),
        Column("GPUs", part=1),
        Column("Max ctx", part=1),
    )
    title = (
        f"{sequences} × {work.context_tokens:,} tokens on {gpu.name} ({gib(gpu.memory_bytes)} each)"
    )
    return Table(title, columns, tuple(_compare_cells(row) for row in result.rows))


def _compare_cells(row: Row) -> tuple[str, ...]:
    whole = row.footprint
    return (
        row.spec.name,
        " + ".join(row.attention) or NOTHING,
        whole.kv_cache_dtype,
        _layer_count(row.spec),
        number(whole.bytes_per_token),
        _size(whole.fixed_bytes_per_sequence + whole.cross_attention_bytes_per_sequence),
        gib(whole.total_bytes),
        NOTHING if row.mha_ratio is None else f"{ratio(100 * row.mha_ratio)}%",
        _relation(row.ratio_to_first),
        UNKNOWN if row.spec.weights_bytes is None else gib(row.spec.weights_bytes),
        _gpu_count(row),
        _longest(row),
    )


def _layer_count(spec: ModelSpec) -> str:
    if spec.cached_layers == spec.total_layers:
        return str(spec.total_layers)
    return f"{spec.cached_layers} of {spec.total_layers}"


def _size(size_bytes: int) -> str:
    return gib(size_bytes) if size_bytes else NOTHING


def _relation(ratio_to_first: float | None) -> str:
    if not ratio_to_first:
        return NOTHING
    if ratio_to_first == 1:
        return "1×"
    if ratio_to_first < 1:
        return f"{ratio(1 / ratio_to_first)}× less"
    return f"{ratio(ratio_to_first)}× more"


def _gpu_count(row: Row) -> str:
    if row.gpu_count is not None:
        return str(row.gpu_count)
    if row.indivisible:
        return "no split"
    return "no fit" if row.does_not_fit else UNKNOWN


def _longest(row: Row) -> str:
    if row.context_unbounded:
        return "any"
    if row.max_context_tokens is None:
        return NOTHING
    return f"{row.max_context_tokens:,}" if row.max_context_tokens else "none"
