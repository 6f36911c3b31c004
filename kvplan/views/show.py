"""What ``kvplan show`` and ``kvplan import`` answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from kvplan.calc import Footprint, Line, footprint
from kvplan.dtypes import AS_ENGINES_DO, BesideDtypes
from kvplan.multi_head import multi_head_footprint
from kvplan.report import (
    NO_LIMIT,
    NOTHING,
    Answer,
    Column,
    Field,
    Report,
    Table,
    facts,
    records,
    table,
)
from kvplan.spec import ModelSpec
from kvplan.units import gib, json_number, number, ratio
from kvplan.views.beside import beside_caveats, name_notes
from kvplan.views.class_defaults import class_default_notes, few_keys
from kvplan.views.words import (
    format_caveats,
    model_record,
)


@dataclass(frozen=True)
class _Model:
    """A model and what one sequence of its native context keeps."""

    spec: ModelSpec
    cache: Footprint

    @property
    def multi_head(self) -> Footprint | None:
        """The same model with full multi-head attention, or None."""
        return multi_head_footprint(self.spec, self.cache)


def show_report(
    spec: ModelSpec,
    kv_cache_dtype: str = "auto",
    beside: BesideDtypes = AS_ENGINES_DO,
    *,
    draft: bool = False,
) -> Report:
    """The answer of ``kvplan show``: what each group of layers keeps, with its working."""
    context_tokens = spec.native_context_tokens or 1
    cache = footprint(spec, context_tokens, 1, kv_cache_dtype, draft=draft, beside=beside)
    model = _Model(spec, cache)
    groups = records(_GROUP_FIELDS, cache.lines)
    return Report(
        command="show",
        inputs={
            "model": spec.name,
            "kv_cache_dtype": kv_cache_dtype,
            **asdict(beside),
            "draft": draft,
        },
        payload=_payload(model) | {"groups": groups},
        records=groups,
        answer=Answer(_sentence(model)),
        tables=(
            facts("", _FACTS, model),
            table("What its layers keep", _GROUP_FIELDS, cache.lines),
            _working(cache),
        ),
        warnings=(*_caveats(spec, draft=draft), *format_caveats(cache), *beside_caveats(cache)),
        notes=(*name_notes([spec]), *class_default_notes([spec])),
    )


def _payload(model: _Model) -> dict[str, Any]:
    spec, multi_head = model.spec, model.multi_head
    return {
        **model_record(spec, model.cache),
        "architecture": spec.architecture,
        "aliases": list(spec.aliases),
        "dtype": spec.dtype,
        "attention": list(spec.attention),
        "mha_bytes_per_token": json_number(multi_head.bytes_per_token) if multi_head else None,
        "notes_on_model": spec.notes,
        "class_defaults": [asdict(default) for default in spec.class_defaults],
    }


def _sentence(model: _Model) -> str:
    """What one more token costs, and what a sequence keeps beside that."""
    spec, cache = model.spec, model.cache
    attention = " + ".join(spec.attention) or "no attention"
    fixed = cache.fixed_bytes_per_sequence
    costs = f"{number(cache.bytes_per_token)} B for each token"
    if fixed:
        costs += f" and {gib(fixed)} a sequence"
    return f"{spec.name} ({attention}) keeps {costs}."


def _caveats(spec: ModelSpec, *, draft: bool) -> tuple[str, ...]:
    missing = ("the spec names no draft layers, so none are counted",)
    left_out = tuple(f"not counted in parameters and weights: {part}" for part in spec.not_counted)
    return (*spec.assumptions, *left_out, *(missing if draft and not spec.draft else ()))


def _context(model: _Model) -> str:
    context_tokens = model.spec.native_context_tokens
    return f"{context_tokens:,} tokens" if context_tokens else NO_LIMIT


def _layers(model: _Model) -> str:
    spec = model.spec
    drafts = sum(group.layers or 0 for group in spec.draft) if model.cache.draft else 0
    more = f", and {drafts} draft" if drafts else ""
    if spec.cached_layers == spec.total_layers:
        return f"{spec.total_layers}, each with a cache of its own{more}"
    return f"{spec.total_layers}, of which {spec.cached_layers} keep a cache of their own{more}"


def _cross_attention(model: _Model) -> str:
    size_bytes = model.cache.cross_attention_bytes_per_sequence
    return f"{size_bytes:,} B for one full encoder input" if size_bytes else ""


def _as_multi_head(model: _Model) -> str:
    """What full multi-head attention would keep, with its working; nothing where it is that."""
    multi_head, own = model.multi_head, model.cache.bytes_per_token
    if multi_head is None or not own or multi_head.bytes_per_token <= own:
        return ""
    times = ratio(float(multi_head.bytes_per_token / own))
    working = [line.formula for line in multi_head.lines if line.bytes_per_token]
    total = f"{number(multi_head.bytes_per_token)} B/token in all, " if len(working) > 1 else ""
    return f"{'; '.join(working)}; {total}{times} times as much"


def _parameters(model: _Model) -> str:
    parameters = model.spec.parameters
    if parameters is None:
        return ""
    active = "active ones vary by token or are not known"
    if parameters.active:
        active = f"{parameters.active:,} active"
    if parameters.total is None:
        return f"{parameters.of_language:,} in the language model ({active}); towers not counted"
    if parameters.of_towers:
        active = f"{parameters.of_language:,} language, {parameters.of_towers:,} towers; {active}"
    return f"{parameters.total:,} ({active})"


def _weights(model: _Model) -> str:
    spec = model.spec
    if spec.weights_bytes is None:
        return ""
    dtypes = " + ".join(dict.fromkeys(row.dtype for row in spec.weights))
    return f"{gib(spec.weights_bytes)} as published ({dtypes})"


def _class_defaults(model: _Model) -> str:
    """The keys whose figures are the class's: the first ones, and whose they are."""
    found = model.spec.class_defaults
    if not found:
        return ""
    listed = few_keys(found)
    more = "; kvplan import lists them" if " more" in listed else ""
    sources = [default.source.partition(" ") for default in found]
    classes = ", ".join(dict.fromkeys(name for name, _, _ in sources))
    versions = " ".join(dict.fromkeys(version for _, _, version in sources))
    return f"{listed}: as in {classes} {versions}{more}"


_FACTS: tuple[Field[_Model], ...] = (
    Field("", lambda model: model.spec.source, "source"),
    Field("", _context, "native context"),
    Field("", _layers, "layers"),
    Field("", lambda model: f"{model.cache.kv_cache_dtype} (model {model.spec.dtype})", "KV dtype"),
    Field("", lambda model: f"{number(model.cache.bytes_per_token)} B/token", "grows by"),
    Field("", lambda model: f"{model.cache.fixed_bytes_per_sequence:,} B/sequence", "fixed"),
    Field("", _cross_attention, "cross-attention"),
    Field("", _as_multi_head, "as MHA it would be"),
    Field("", _parameters, "parameters"),
    Field("", _weights, "weights"),
    Field("", _class_defaults, "not in the file"),
    Field("", lambda model: model.spec.notes or "", "notes"),
)


def _layers_of(line: Line) -> str:
    if line.copies == line.layers:
        return str(line.layers)
    return f"{line.layers} ({line.copies} caches)"


_GROUP_FIELDS: tuple[Field[Line], ...] = (
    Field("kind", lambda line: line.kind.kind, "Kind", align="left"),
    Field("label", lambda line: line.kind.tag(), "Label", align="left"),
    Field("layers", lambda line: line.layers, "Layers", _layers_of),
    Field("caches", lambda line: line.copies),
    Field("bytes_per_entry", lambda line: line.bytes_per_entry, "B/entry"),
    Field(
        "bytes_per_token",
        lambda line: json_number(line.bytes_per_token),
        "B/token",
        lambda line: number(line.bytes_per_token) if line.bytes_per_token else NOTHING,
    ),
    Field(
        "fixed_bytes_per_sequence",
        lambda line: line.fixed_bytes,
        "Fixed B/sequence",
        lambda line: f"{line.fixed_bytes:,}" if line.fixed_bytes else NOTHING,
    ),
    Field("formula", lambda line: line.formula),
    Field("elements", lambda line: line.kind.formula),
)


def _working(cache: Footprint) -> Table:
    """Each kind with what it is, and the multiplication of each of its lines."""
    rows: list[tuple[str, str]] = []
    kinds = list(dict.fromkeys(line.kind.kind for line in cache.lines))
    for name in kinds:
        lines = [line for line in cache.lines if line.kind.kind == name]
        kind = lines[0].kind
        rows += [(name, kind.about), ("", f"one entry: {kind.formula}")]
        rows += [("", f"{line.kind.tag()}: {line.formula}") for line in lines]
    columns = (Column("Label", "left"), Column("Working", "left"))
    return Table("How it is counted", columns, tuple(rows), headed=False)


def import_report(spec: ModelSpec, origins: Mapping[tuple[str | int, ...], str]) -> Report:
    """The answer of ``kvplan import`` in any format but YAML: what the file means, and why."""
    shown = show_report(spec)
    payload = {
        **shown.payload,
        "provenance": {".".join(map(str, place)): key for place, key in origins.items()},
    }
    return replace(shown, command="import", inputs={"source": spec.source}, payload=payload)
