"""Results turned into reports: the JSON contract's keys and the words of the tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

from kvplan.calc import Footprint, Line, footprint, multi_head_footprint
from kvplan.comparison import Comparison, Row, attention_labels, format_warnings
from kvplan.errors import DOES_NOT_FIT
from kvplan.formats import FORMATS, CacheFormat
from kvplan.plan import BASIS
from kvplan.report import Column, Report, Table
from kvplan.spec import Gpu, ModelSpec
from kvplan.units import gib, json_number, number, ratio

UNKNOWN = "?"
NOTHING = "–"


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
            "basis": _gpu_basis(result.gpu),
        },
        "gpus": result.asked.gpus if result.asked else None,
        "tensor_parallel": result.asked.tensor_parallel if result.asked else None,
    }


def _gpu_basis(gpu: Gpu) -> str:
    return "assumed" if gpu.memory_basis == "driver-log" else "measured"


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
        "tensor_parallel": row.layout.tensor_parallel if row.layout else None,
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
    sequences = f"{work.sequences:,} sequence{'s' if work.sequences > 1 else ''}"
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


def show_report(spec: ModelSpec, kv_cache_dtype: str = "auto", *, draft: bool = False) -> Report:
    """The answer of ``kvplan show``: what each group of layers keeps, with its working."""
    context_tokens = spec.native_context_tokens or 1
    whole = footprint(spec, context_tokens, 1, kv_cache_dtype, draft=draft)
    multi_head = multi_head_footprint(spec, whole)
    groups = [_group_record(line) for line in whole.lines]
    payload = {
        **_model_record(spec, whole),
        "aliases": list(spec.aliases),
        "dtype": spec.dtype,
        "attention": list(attention_labels(spec)),
        "mha_bytes_per_token": json_number(multi_head.bytes_per_token) if multi_head else None,
        "notes_on_model": spec.notes,
        "groups": groups,
    }
    return Report(
        command="show",
        inputs={"model": spec.name, "kv_cache_dtype": kv_cache_dtype, "draft": draft},
        payload=payload,
        records=groups,
        tables=(_facts_table(spec, whole), _groups_table(whole), _working_table(whole)),
        warnings=(*_spec_warnings(spec, draft=draft), *format_warnings(whole)),
    )


def _spec_warnings(spec: ModelSpec, *, draft: bool) -> tuple[str, ...]:
    missing = ("the spec names no draft layers, so none are counted",)
    left_out = tuple(f"not counted in parameters and weights: {part}" for part in spec.not_counted)
    return (*spec.assumptions, *left_out, *(missing if draft and not spec.draft else ()))


def _model_record(spec: ModelSpec, whole: Footprint) -> dict[str, Any]:
    return {
        "name": spec.name,
        "source": spec.source,
        "native_context_tokens": spec.native_context_tokens,
        "layers": spec.total_layers,
        "cached_layers": spec.cached_layers,
        "kv_cache_dtype": whole.kv_cache_dtype,
        "bytes_per_token": json_number(whole.bytes_per_token),
        "fixed_bytes_per_sequence": whole.fixed_bytes_per_sequence,
        "cross_attention_bytes_per_sequence": whole.cross_attention_bytes_per_sequence,
        "parameters": {
            "total": spec.parameters.total if spec.parameters else None,
            "active": spec.parameters.active if spec.parameters else None,
        },
        "weights_bytes": spec.weights_bytes,
        "not_counted": list(spec.not_counted),
    }


def _group_record(line: Line) -> dict[str, Any]:
    return {
        "kind": line.kind.kind,
        "label": line.kind.tag(),
        "layers": line.layers,
        "caches": line.copies,
        "bytes_per_entry": line.bytes_per_entry,
        "bytes_per_token": json_number(line.bytes_per_token),
        "fixed_bytes_per_sequence": line.fixed_bytes,
        "formula": line.formula,
        "elements": line.kind.formula,
    }


def _facts_table(spec: ModelSpec, whole: Footprint) -> Table:
    context = spec.native_context_tokens
    facts = [
        ("source", spec.source),
        ("native context", f"{context:,} tokens" if context else "not bounded"),
        ("layers", _layers(spec, draft=whole.draft)),
        ("KV dtype", f"{whole.kv_cache_dtype} (model {spec.dtype})"),
        ("grows by", f"{number(whole.bytes_per_token)} B/token"),
        ("fixed", f"{whole.fixed_bytes_per_sequence:,} B/sequence"),
    ]
    if whole.cross_attention_bytes_per_sequence:
        cross = whole.cross_attention_bytes_per_sequence
        facts.append(("cross-attention", f"{cross:,} B for one full encoder input"))
    facts += _as_multi_head(spec, whole)
    if spec.parameters:
        active = spec.parameters.active
        used = f"{active:,} active" if active else "active ones vary by token"
        facts.append(("parameters", f"{spec.parameters.total:,} ({used})"))
    if spec.weights_bytes:
        dtypes = " + ".join(dict.fromkeys(row.dtype for row in spec.weights))
        beside = [str(row.part) for row in spec.weights if row.what == "not in parameters"]
        extra = f", {' and '.join(beside)} besides the parameters" if beside else ""
        facts.append(("weights", f"{gib(spec.weights_bytes)} as published ({dtypes}){extra}"))
    if spec.notes:
        facts.append(("notes", spec.notes))
    columns = (Column("Fact", "left"), Column("Value", "left"))
    return Table(spec.name, columns, tuple(facts), headed=False)


def _layers(spec: ModelSpec, *, draft: bool) -> str:
    drafts = sum(group.layers or 0 for group in spec.draft) if draft else 0
    more = f", and {drafts} draft" if drafts else ""
    if spec.cached_layers == spec.total_layers:
        return f"{spec.total_layers}, each with a cache of its own{more}"
    return f"{spec.total_layers}, of which {spec.cached_layers} keep a cache of their own{more}"


def _as_multi_head(spec: ModelSpec, whole: Footprint) -> list[tuple[str, str]]:
    """What full multi-head attention would keep, with its working; nothing where it is that."""
    multi_head = multi_head_footprint(spec, whole)
    if multi_head is None or not whole.bytes_per_token:
        return []
    if multi_head.bytes_per_token <= whole.bytes_per_token:
        return []
    times = ratio(float(multi_head.bytes_per_token / whole.bytes_per_token))
    working = [line.formula for line in multi_head.lines if line.bytes_per_token]
    total = f"{number(multi_head.bytes_per_token)} B/token in all, " if len(working) > 1 else ""
    return [("as MHA it would be", f"{'; '.join(working)}; {total}{times} times as much")]


def _groups_table(whole: Footprint) -> Table:
    columns = (
        Column("Kind", "left"),
        Column("Label", "left"),
        Column("Layers"),
        Column("B/entry"),
        Column("B/token"),
        Column("Fixed B/sequence"),
    )
    rows = tuple(
        (
            line.kind.kind,
            line.kind.tag(),
            str(line.layers)
            if line.copies == line.layers
            else f"{line.layers} ({line.copies} caches)",
            f"{line.bytes_per_entry:,}",
            number(line.bytes_per_token) if line.bytes_per_token else NOTHING,
            f"{line.fixed_bytes:,}" if line.fixed_bytes else NOTHING,
        )
        for line in whole.lines
    )
    return Table("What its layers keep", columns, rows)


def _working_table(whole: Footprint) -> Table:
    rows: list[tuple[str, str]] = []
    explained: set[str] = set()
    for line in sorted(whole.lines, key=lambda line: _first_of_kind(whole, line)):
        if line.kind.kind not in explained:
            rows += [(line.kind.kind, line.kind.about), ("", f"one entry: {line.kind.formula}")]
        rows.append(("", f"{line.kind.tag()}: {line.formula}"))
        explained.add(line.kind.kind)
    columns = (Column("Label", "left"), Column("Working", "left"))
    return Table("How it is counted", columns, tuple(rows), headed=False)


def _first_of_kind(whole: Footprint, line: Line) -> int:
    return [other.kind.kind for other in whole.lines].index(line.kind.kind)


def import_report(spec: ModelSpec, origins: Mapping[tuple[str | int, ...], str]) -> Report:
    """The answer of ``kvplan import`` in any format but YAML: what the file means, and why."""
    shown = show_report(spec)
    payload = {
        **shown.payload,
        "provenance": {".".join(map(str, place)): key for place, key in origins.items()},
    }
    return replace(shown, command="import", inputs={"source": spec.source}, payload=payload)


def models_report(specs: Iterable[ModelSpec], kind: str | None = None) -> Report:
    """The answer of ``kvplan list models``."""
    records = [_listed_model(spec) for spec in specs]
    columns = (
        Column("Model", "left"),
        Column("Attention", "left"),
        Column("B/token"),
        Column("Context"),
        Column("Parameters"),
    )
    rows = tuple(
        (
            record["name"],
            " + ".join(record["attention"]) or NOTHING,
            number(record["bytes_per_token"])
            if isinstance(record["bytes_per_token"], int)
            else f"{record['bytes_per_token']:,}",
            f"{record['native_context_tokens']:,}" if record["native_context_tokens"] else NOTHING,
            _billions(record["parameters"]["total"]),
        )
        for record in records
    )
    return Report(
        command="list",
        inputs={"what": "models", "kind": kind},
        payload={"models": records},
        records=[{**record, "parameters": record["parameters"]["total"]} for record in records],
        tables=(Table(f"{len(rows)} models", columns, rows),),
    )


def _listed_model(spec: ModelSpec) -> dict[str, Any]:
    whole = footprint(spec, spec.native_context_tokens or 1)
    kinds = dict.fromkeys(kind.kind for kind, _, _ in spec.caches())
    return {
        **_model_record(spec, whole),
        "aliases": list(spec.aliases),
        "attention": list(attention_labels(spec)),
        "kinds": list(kinds),
    }


def _billions(parameters: int | None) -> str:
    return UNKNOWN if parameters is None else f"{parameters / 1e9:,.1f}B"


def gpus_report(gpus: Iterable[Gpu]) -> Report:
    """The answer of ``kvplan list gpus``."""
    listed = list(gpus)
    records = [asdict(gpu) | {"basis": _gpu_basis(gpu)} for gpu in listed]
    columns = (
        Column("GPU", "left"),
        Column("Memory"),
        Column("known from", "left"),
        Column("Bandwidth"),
        Column("Also called", "left"),
    )
    rows = tuple(
        (
            gpu.name,
            gib(gpu.memory_bytes),
            gpu.memory_basis,
            UNKNOWN
            if gpu.bandwidth_bytes_per_s is None
            else f"{gpu.bandwidth_bytes_per_s // 10**9:,} GB/s",
            ", ".join(gpu.aliases),
        )
        for gpu in listed
    )
    return Report(
        command="list",
        inputs={"what": "gpus"},
        payload={"gpus": records},
        records=records,
        tables=(Table(f"{len(rows)} GPUs", columns, rows),),
        notes=("memory is what the driver lets a process see, never the number on the box",),
    )


def formats_report() -> Report:
    """The answer of ``kvplan list formats``."""
    records = [_listed_format(row) for row in FORMATS.values()]
    columns = (
        Column("KV dtype", "left"),
        Column("128 wide"),
        Column("MLA 512+64"),
        Column("Source", "left"),
    )
    rows = tuple(
        (
            record["name"],
            NOTHING if record["bytes_per_128"] is None else f"{record['bytes_per_128']} B",
            f"{record['bytes_per_mla_entry']:,} B",
            record["source"],
        )
        for record in records
    )
    return Report(
        command="list",
        inputs={"what": "formats"},
        payload={"formats": records},
        records=records,
        tables=(Table("KV cache dtypes", columns, rows),),
        notes=("auto is the model's own dtype, or the scheme that its checkpoint names",),
    )


def _listed_format(row: CacheFormat) -> dict[str, Any]:
    latent = row.packing("latent", 512).row_bytes(512)
    return {
        "name": row.name,
        "aliases": list(row.aliases),
        "bytes_per_128": row.default.row_bytes(128) if row.default else None,
        "bytes_per_mla_entry": latent + row.packing("rope_key", 64).row_bytes(64),
        "source": row.source,
    }
