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


def active_experts(spec: ModelSpec) -> float:
    """Share of the routed experts' parameters that one token uses; 0 where it is not known."""
    rows = [row for row in spec.weights if row.part == "routed_experts"]
    packed = any(row.what == "packed" for row in rows)
    if spec.parameters is None or spec.parameters.active is None or packed:
        return 0.0
    routed = sum(row.elements for row in rows if row.what is None)
    idle = spec.parameters.of_language - spec.parameters.active
    return max(0.0, 1 - idle / routed) if routed else 1.0


def _has_head(spec: ModelSpec) -> bool:
    return any(row.part == "lm_head" and row.is_loaded for row in spec.weights)
