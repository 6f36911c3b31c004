"""What a decode step reads of the weights on one GPU."""

from __future__ import annotations

from kvplan.spec import ModelSpec
from kvplan.weights import WeightsLine

_NOT_READ = ("vision", "audio", "tables", "rounding")


def read_bytes(spec: ModelSpec, lines: tuple[WeightsLine, ...], experts: float) -> int:
    """Weight bytes that a decode step reads on this GPU, of the routed experts this share.

    An embedding and tables of positions are looked up and not read, towers have been read before.
    """
    share = {
        "routed_experts": experts,
        "embedding": 0.0 if _has_head(spec) else 1.0,
        **dict.fromkeys(_NOT_READ, 0.0),
    }
    return int(sum(line.size_bytes * share.get(line.part, 1.0) for line in lines))


def _has_head(spec: ModelSpec) -> bool:
    return any(row.part == "lm_head" and row.is_loaded for row in spec.weights)
