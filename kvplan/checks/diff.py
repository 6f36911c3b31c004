"""How two models, or two lock files, differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kvplan.calc import footprint
from kvplan.checks.baseline import Change, changes, drifts, read_lock
from kvplan.errors import UsageError
from kvplan.registry.names import load
from kvplan.spec import ModelSpec
from kvplan.units import json_number

_IS_LOCK = ".lock.json"


@dataclass(frozen=True)
class Difference:
    """A figure of A and of B; ``deployment`` and ``cause`` are known of lock files alone."""

    figure: str
    before: Any
    after: Any
    deployment: str | None = None
    cause: str | None = None
    changed: tuple[Change, ...] = ()
    """Keys of the deployment that changed, where the lock files keep them."""


@dataclass(frozen=True)
class Comparison:
    """All differences, and the models that were compared; of lock files there are none."""

    differences: tuple[Difference, ...]
    models: tuple[ModelSpec, ...] = ()


def difference(one: str, other: str, context_tokens: int, kv_cache_dtype: str) -> Comparison:
    """Every figure in which two models, or two lock files (``*.lock.json``), are not the same.

    Raises UsageError for a model beside a lock file, and what reading either of them raises.
    """
    locks = [name.endswith(_IS_LOCK) for name in (one, other)]
    if all(locks):
        return Comparison(tuple(_of_locks(Path(one), Path(other))))
    if any(locks):
        raise UsageError("a model and a lock file have no figures in common", "name two of a kind")
    models = load(one), load(other)
    return Comparison(tuple(_of_models(*models, context_tokens, kv_cache_dtype)), models)


def _of_locks(one: Path, other: Path) -> Iterator[Difference]:
    before, after = read_lock(one), read_lock(other)
    for name in sorted({**before, **after}):
        if name not in after:
            yield Difference("deployment", "there", None, name, "taken out")
        elif name not in before:
            yield Difference("deployment", None, "there", name, "new")
        else:
            keys = changes(before[name], after[name])
            for drift in drifts(before[name], after[name]):
                yield Difference(drift.figure, drift.before, drift.after, name, drift.cause, keys)


def _of_models(one: ModelSpec, other: ModelSpec, context: int, dtype: str) -> Iterator[Difference]:
    before, after = _facts(one, context, dtype), _facts(other, context, dtype)
    for figure in {**before, **after}:
        if before.get(figure) != after.get(figure):
            yield Difference(figure, before.get(figure), after.get(figure))


def _facts(spec: ModelSpec, context_tokens: int, kv_cache_dtype: str) -> dict[str, Any]:
    whole = footprint(spec, context_tokens, 1, kv_cache_dtype)
    parameters = spec.parameters
    return {
        "attention": " + ".join(spec.attention),
        "bytes_per_token": json_number(whole.bytes_per_token),
        "fixed_bytes_per_sequence": whole.fixed_bytes_per_sequence,
        f"kv_bytes of {context_tokens:,} tokens": whole.total_bytes,
        "kv_cache_dtype": whole.kv_cache_dtype,
        "native_context_tokens": spec.native_context_tokens,
        "layers": spec.total_layers,
        "cached_layers": spec.cached_layers,
        "weights_bytes": spec.weights_bytes,
        "total_parameters": parameters.total if parameters else None,
        "language_parameters": parameters.of_language if parameters else None,
        "active_parameters": parameters.active if parameters else None,
    }
