"""What is expected of a deployment, held against its plan, and in what words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from kvplan.calc import Footprint, footprint
from kvplan.deployments import Deployment, Stated
from kvplan.planning import Plan
from kvplan.units import gib, json_number

Number = int | float


class _Bound(NamedTuple):
    name: str
    expected: Number
    found: Number | None
    at_least: bool

    def holds(self) -> bool:
        """``None`` is found where there is no bound: as many as one likes."""
        if self.found is None:
            return True
        return self.found >= self.expected if self.at_least else self.found <= self.expected


def _told(found: Plan) -> str:
    sequences, context = found.work.sequences, found.work.context_tokens
    return (
        f"{found.layout.gpus} × {found.gpu.name} ({found.layout.name}), "
        f"{sequences:,} × {context:,} tokens, {gib(max(0, found.budget.free_bytes))} of a GPU free"
    )


def expectations(
    deployment: Deployment, found: Plan
) -> Iterator[tuple[str, tuple[str | int, ...], bool, str]]:
    """Each expectation's name, its place in the file, whether it holds, and what was found."""
    expect = deployment.expect
    holds = found.fits == (expect.fits is not False)
    yield "fits", ("expect", "fits"), holds, _fits(found, holds=holds)
    for bound in _bounds(deployment, found):
        yield bound.name, ("expect", bound.name), bound.holds(), _measured(bound, found)
    for index, stated in enumerate(expect.stated):
        holds, message = _compared(stated, found)
        yield f"stated {stated.figure}", ("expect", "stated", index), holds, message


def _fits(found: Plan, *, holds: bool) -> str:
    if found.fits:
        return _told(found) if holds else f"fits, although it should not: {_told(found)}"
    budget = found.budget
    return (
        f"does not fit: caches need {gib(budget.cache.total_bytes)} on each of "
        f"{found.layout.gpus} × {found.gpu.name} ({found.layout.name}) and have "
        f"{gib(max(0, budget.room_bytes))}; {_remedy(found)}"
    )


def _remedy(found: Plan) -> str:
    work, fitting = found.work, []
    if found.max_sequences:
        fitting.append(f"sequences: {found.max_sequences}")
    if found.max_context_tokens:
        fitting.append(f"context: {found.max_context_tokens}")
    if fitting:
        asked = f"{work.sequences:,} × {work.context_tokens:,} tokens"
        half = " or kv_cache_dtype: fp8" if _is_16_bit(found) else ""
        return f"instead of {asked} it holds {' or '.join(fitting)}; or take more GPUs{half}"
    return "no cache fits at all: take more or larger GPUs"


def _is_16_bit(found: Plan) -> bool:
    return found.budget.cache.kv_cache_dtype in ("bfloat16", "float16")


def _bounds(deployment: Deployment, found: Plan) -> Iterator[_Bound]:
    expect, budget = deployment.expect, found.budget
    headroom = 100 * budget.free_bytes / budget.memory_bytes
    whole = float(_whole(found).bytes_per_token)
    for bound in (
        ("min_sequences", expect.min_sequences, found.max_sequences, True),
        ("min_context", expect.min_context, found.max_context_tokens, True),
        ("max_gpus", expect.max_gpus, found.layout.gpus, False),
        ("max_bytes_per_token", expect.max_bytes_per_token, whole, False),
        ("min_headroom_percent", expect.min_headroom_percent, headroom, True),
    ):
        name, expected, actual, at_least = bound
        if expected is not None:
            yield _Bound(name, expected, actual, at_least)


def _measured(bound: _Bound, found: Plan) -> str:
    word = "at least" if bound.at_least else "at most"
    told = f"{_shown(bound.found)}, {word} {_shown(bound.expected)} expected"
    if bound.holds():
        return told
    return f"{told}; {_told(found) if found.fits else _remedy(found)}"


def _shown(value: Number | None) -> str:
    """A figure as people read it."""
    if value is None:
        return "no bound"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"


def _whole(found: Plan) -> Footprint:
    """The footprint of one copy of the whole model, as ``compare`` tells it."""
    dtype = found.budget.cache.kv_cache_dtype
    return footprint(found.spec, 1, 1, dtype, draft=found.work.draft)


def figures(found: Plan) -> dict[str, Number | None]:
    """The figures of a plan that can be stated, and that a baseline keeps."""
    budget, whole = found.budget, _whole(found)
    return {
        "bytes_per_token": json_number(whole.bytes_per_token),
        "fixed_bytes_per_sequence": whole.fixed_bytes_per_sequence,
        "kv_bytes": budget.cache.total_bytes,
        "weights_bytes": budget.weights_bytes,
        "kv_available_bytes": max(0, budget.room_bytes),
        "gpus": found.layout.gpus,
        "max_context_tokens": found.max_context_tokens,
        "max_sequences": found.max_sequences,
    }


def _compared(stated: Stated, found: Plan) -> tuple[bool, str]:
    actual = figures(found)[stated.figure]
    allowed = stated.value * stated.tolerance_percent / 100
    tolerance = f" ± {stated.tolerance_percent:g}%" if stated.tolerance_percent else ""
    holds = actual is not None and abs(actual - stated.value) <= allowed
    told = f"{_shown(actual)}, {stated.value:,}{tolerance} stated"
    return holds, told if holds else f"{told}; {_told(found)}"
