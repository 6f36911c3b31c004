"""What ``kvplan show`` and ``kvplan import`` answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kvplan.answers.words import NOTHING, model_record
from kvplan.calc import Footprint, Line, footprint, multi_head_footprint
from kvplan.comparison import attention_labels, format_warnings
from kvplan.report import Column, Report, Table
from kvplan.spec import ModelSpec
from kvplan.units import gib, json_number, number, ratio


def show_report(spec: ModelSpec, kv_cache_dtype: str = "auto", *, draft: bool = False) -> Report:
    """The answer of ``kvplan show``: what each group of layers keeps, with its working."""
    context_tokens = spec.native_context_tokens or 1
    whole = footprint(spec, context_tokens, 1, kv_cache_dtype, draft=draft)
    multi_head = multi_head_footprint(spec, whole)
    groups = [_group_record(line) for line in whole.lines]
    payload = {
        **model_record(spec, whole),
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
        used = f"{active:,} active" if active else "active ones vary by token or are not known"
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
