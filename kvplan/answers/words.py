"""Words and records that several answers share."""

from __future__ import annotations

from typing import Any

from kvplan.calc import Footprint
from kvplan.spec import Gpu, ModelSpec
from kvplan.units import json_number

UNKNOWN = "?"
NOTHING = "–"


def gpu_basis(gpu: Gpu) -> str:
    """How far the memory of a GPU is to be trusted, in the contract's words."""
    return "assumed" if gpu.memory_basis == "driver-log" else "measured"


def model_record(spec: ModelSpec, whole: Footprint) -> dict[str, Any]:
    """A model's own facts under the contract's keys."""
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


def plural(sequences: int) -> str:
    """So many sequences, in words."""
    return f"{sequences:,} sequence{'' if sequences == 1 else 's'}"
