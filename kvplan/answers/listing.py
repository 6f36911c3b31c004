"""What ``kvplan list`` answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from kvplan.answers.words import NOTHING, UNKNOWN, gpu_basis, model_record
from kvplan.calc import footprint
from kvplan.comparison import attention_labels
from kvplan.formats import FORMATS, CacheFormat
from kvplan.report import Column, Report, Table
from kvplan.spec import Gpu, ModelSpec
from kvplan.units import gib, number


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
        **model_record(spec, whole),
        "aliases": list(spec.aliases),
        "attention": list(attention_labels(spec)),
        "kinds": list(kinds),
    }


def _billions(parameters: int | None) -> str:
    return UNKNOWN if parameters is None else f"{parameters / 1e9:,.1f}B"


def gpus_report(gpus: Iterable[Gpu]) -> Report:
    """The answer of ``kvplan list gpus``."""
    listed = list(gpus)
    records = [asdict(gpu) | {"basis": gpu_basis(gpu)} for gpu in listed]
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
