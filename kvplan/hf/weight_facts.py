"""Counted weights as a spec states them: parameters, rows of stored bytes, what is left out."""

from __future__ import annotations

from typing import Any, get_args

from kvplan.hf.weights import Part, Weights
from kvplan.stored import Parameters, StoredWeights
from kvplan.stored import Part as PartName

# Bounds of the bytes that lie this near to one another are as good as a figure.
_NEAR = 1.01

_BESIDE = {
    "scale": "scales",
    "zero point": "zero points",
    "order": "order",
    "shape": "shapes",
    "buffer": "buffers",
}
"""Words of what a row is, and its name in a spec."""


def weight_facts(weights: Weights) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The spec's keys about weights, and what every answer that rests on them has to say.

    A part that could not be counted is named in ``not_counted``; bytes that the file leaves open
    within a hundredth are taken at their most; where it leaves more open there are no weights.
    """
    facts: dict[str, Any] = {"not_counted": tuple(part[:2_000] for part in weights.not_counted)}
    facts["lora"] = weights.lora
    if weights.parts:
        facts["parameters"] = parameters(weights)
    rows = _rows(weights)
    if rows is None:
        unbounded = [part for part in weights.parts if part.most_bytes is None] or weights.parts
        why = "; ".join(dict.fromkeys(part.unknown for part in unbounded if part.unknown))
        return facts, (f"weights in bytes are not known: {why}"[:2_000],) if why else ()
    facts["weights"] = rows
    facts["routed_experts"] = weights.routed_experts
    facts["expert_intermediate_size"] = weights.expert_intermediate_size
    said = (weights.assumes,) if weights.assumes else ()
    return facts, (*said, *_open_bytes(weights))


def parameters(weights: Weights) -> Parameters:
    """Total, active and, where there are towers, the language model's parameters."""
    towers = weights.total != weights.language
    return Parameters(
        total=weights.total, active=weights.active, language=weights.language if towers else None
    )


def _rows(weights: Weights) -> tuple[StoredWeights, ...] | None:
    found: dict[tuple[str, str, str | None], int] = {}
    for part in weights.parts:
        for row in _stored(part) or ():
            key = (part.name, row.dtype, _beside(row))
            found[key] = found.get(key, 0) + row.elements
    least = [part.least_bytes for part in weights.parts]
    most = [part.most_bytes for part in weights.parts]
    if not weights.parts or None in least or None in most:
        return None
    if sum(filter(None, most)) > _NEAR * sum(filter(None, least)):
        return None
    names = get_args(PartName)
    return tuple(
        StoredWeights(part=part, dtype=dtype, elements=elements, what=what)  # type: ignore[arg-type]
        for (part, dtype, what), elements in sorted(
            found.items(), key=lambda item: (names.index(item[0][0]), item[0][2] or "", -item[1])
        )
    )


def _stored(part: Part) -> tuple[StoredWeights, ...] | None:
    return part.stored if part.stored is not None else part.at_most


def _beside(row: StoredWeights) -> str | None:
    """What a row is, where it is no parameter."""
    what = row.what or ""
    for word, name in _BESIDE.items():
        if word in what:
            return name
    return None


def _open_bytes(weights: Weights) -> tuple[str, ...]:
    unsure = [part for part in weights.parts if part.unknown]
    if not unsure:
        return ()
    less = sum((part.most_bytes or 0) - (part.least_bytes or 0) for part in unsure)
    names = ", ".join(part.name for part in unsure)
    return (f"weights are an upper bound, up to {less:,} bytes too high: {names}",)
