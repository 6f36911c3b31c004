"""What ``kvplan list`` answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from operator import attrgetter
from typing import Any

from kvplan.calc import Footprint, footprint
from kvplan.formats import FORMATS, CacheFormat
from kvplan.gpu import Gpu
from kvplan.report import NOTHING, UNKNOWN, Field, Note, Report, records, table
from kvplan.spec import ModelSpec
from kvplan.units import gib, number, plural
from kvplan.views.words import gpu_basis, model_record

_Model = tuple[ModelSpec, Footprint]


def models_report(
    specs: Iterable[ModelSpec], kind: str | None = None, search: str | None = None
) -> Report:
    """The answer of ``kvplan list models``."""
    rows = [(spec, footprint(spec, spec.native_context_tokens or 1)) for spec in specs]
    models = [_record(row) for row in rows]
    return Report(
        command="list",
        inputs={"what": "models", "kind": kind, "search": search},
        payload={"models": models},
        records=models,
        tables=(table(plural(len(rows), "model"), _MODEL_FIELDS, rows),),
    )


def _record(row: _Model) -> dict[str, Any]:
    spec, cache = row
    return {
        **model_record(spec, cache),
        "aliases": list(spec.aliases),
        "attention": list(spec.attention),
        "kinds": list(dict.fromkeys(kind.kind for kind, _, _ in spec.caches())),
    }


def _billions(row: _Model) -> str:
    parameters = row[0].parameters
    if parameters is None:
        return UNKNOWN
    return f"{(parameters.total or parameters.of_language) / 1e9:,.1f}B"


def _hub_id(spec: ModelSpec) -> str:
    """The first of its Hugging Face ids; JSON has all under ``aliases``."""
    ids = [alias for alias in spec.aliases if "/" in alias]
    more = f" +{len(ids) - 1}" if len(ids) > 1 else ""
    return f"{ids[0]}{more}" if ids else NOTHING


_MODEL_FIELDS: tuple[Field[_Model], ...] = (
    Field("", lambda row: row[0].name, "Model", align="left"),
    Field("", lambda row: " + ".join(row[0].attention) or NOTHING, "Attention", align="left"),
    Field("", lambda row: number(row[1].bytes_per_token), "B/token"),
    Field("", lambda row: row[0].native_context_tokens, "Context"),
    Field("", _billions, "Parameters"),
    Field("", lambda row: _hub_id(row[0]), "Hugging Face id", align="left", rank=1),
)


def gpus_report(gpus: Iterable[Gpu], search: str | None = None) -> Report:
    """The answer of ``kvplan list gpus``."""
    rows = list(gpus)
    listed = records(_GPU_FIELDS, rows)
    return Report(
        command="list",
        inputs={"what": "gpus", "search": search},
        payload={"gpus": listed},
        records=listed,
        tables=(table(plural(len(rows), "GPU"), _GPU_FIELDS, rows),),
        notes=(
            Note(
                "memory as the driver shows it",
                "memory is what the driver lets a process see, never the number on the box",
            ),
        ),
    )


def _bandwidth(gpu: Gpu) -> str:
    bandwidth = gpu.bandwidth_bytes_per_s
    return UNKNOWN if bandwidth is None else f"{bandwidth // 10**9:,} GB/s"


_SHOWN_OF_GPU: tuple[Field[Gpu], ...] = (
    Field("name", attrgetter("name"), "GPU", align="left"),
    Field("memory_bytes", attrgetter("memory_bytes"), "Memory", lambda gpu: gib(gpu.memory_bytes)),
    Field("memory_basis", attrgetter("memory_basis"), "Known from", align="left"),
    Field("bandwidth_bytes_per_s", attrgetter("bandwidth_bytes_per_s"), "Bandwidth", _bandwidth),
    Field(
        "aliases", attrgetter("aliases"), "Also called", lambda gpu: ", ".join(gpu.aliases), "left"
    ),
)
_GPU_FIELDS: tuple[Field[Gpu], ...] = (
    *_SHOWN_OF_GPU,
    Field("basis", gpu_basis),
    *(
        Field(key.name, attrgetter(key.name))
        for key in fields(Gpu)
        if key.name not in {"name_note", *(shown.key for shown in _SHOWN_OF_GPU)}
    ),
)


def formats_report() -> Report:
    """The answer of ``kvplan list formats``."""
    rows = list(FORMATS.values())
    formats = records(_FORMAT_FIELDS, rows)
    return Report(
        command="list",
        inputs={"what": "formats"},
        payload={"formats": formats},
        records=formats,
        tables=(table("KV cache dtypes", _FORMAT_FIELDS, rows),),
        notes=(
            Note("auto", "auto is the model's own dtype, or the scheme that its checkpoint names"),
        ),
    )


def _bytes_per_128(row: CacheFormat) -> int | None:
    return row.default.row_bytes(128) if row.default else None


def _bytes_per_mla_entry(row: CacheFormat) -> int:
    latent = row.packing("latent", 512).row_bytes(512)
    return latent + row.packing("rope_key", 64).row_bytes(64)


def _in_bytes(size_bytes: int | None) -> str:
    return NOTHING if size_bytes is None else f"{size_bytes:,} B"


_FORMAT_FIELDS: tuple[Field[CacheFormat], ...] = (
    Field("name", attrgetter("name"), "KV dtype", align="left"),
    Field("aliases", lambda row: list(row.aliases)),
    Field("bytes_per_128", _bytes_per_128, "128 wide", lambda row: _in_bytes(_bytes_per_128(row))),
    Field(
        "bytes_per_mla_entry",
        _bytes_per_mla_entry,
        "MLA 512+64",
        lambda row: _in_bytes(_bytes_per_mla_entry(row)),
    ),
    Field("source", attrgetter("source"), "Source", align="left", rank=1, yields=True),
)
