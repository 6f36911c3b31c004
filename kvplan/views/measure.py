"""What ``kvplan measure`` answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

from kvplan.answers.measure_tables import (
    caches_table,
    card_table,
    comparison,
    decode_tables,
    filled,
    limits_table,
)
from kvplan.answers.words import UNKNOWN
from kvplan.comparison import cache_warnings
from kvplan.errors import DOES_NOT_FIT, MeasurementError
from kvplan.measure.caches import CacheMeasurement, CacheQuestion
from kvplan.measure.card import Card
from kvplan.measure.ceilings import Ceilings
from kvplan.measure.decode import DecodeMeasurement, LayerTime
from kvplan.measure.layouts import GROWTH_TOKENS
from kvplan.measure.names import CacheLayout
from kvplan.measure.search import Limit
from kvplan.measure.session import Limits, Measurement, Request
from kvplan.report import Report
from kvplan.units import gib

ATTENTION_ALONE = (
    "decode is attention over the cache alone (no projections, no MLP, no communication), over "
    "caches laid out as the kernels take them; in a CUDA graph on CUDA"
)
SEARCHED = (
    "found: allocated, and one more refused; planner: what kvplan plan says of the room there was; "
    "with rounding: what the allocator's rules make of it; left: what is still free beside it"
)
NO_COUNTERS = (
    "a CPU has no counters to hold against a prediction: tensors' bytes, and what was written, are "
    "what is checked; what its decode takes is an example"
)


def measure_report(request: Request, found: Measurement, saved: str | None = None) -> Report:
    """The answer of ``kvplan measure``.

    Exit code 1 where a cache or its weights did not fit, or a counter shows what was not
    predicted.
    """
    caches = [_cache_record(each) for each in found.caches]
    limits = [_limits_record(each) for each in found.limits]
    decode = [_decode_record(each, found.ceilings) for each in found.decode]
    same_memory = [_decode_record(each, found.ceilings) for each in found.same_memory]
    tables = [card_table(found)]
    if found.caches:
        tables.append(caches_table(found))
    if found.limits:
        tables.append(limits_table(found.limits))
    if found.decode:
        tables += decode_tables(found)
    return Report(
        command="measure",
        inputs=_inputs(request, saved),
        payload={
            "card": _card_record(found.card),
            "caches": caches,
            "checked_seconds": found.seconds,
            "limits": limits,
            "ceilings": _ceilings_record(found.ceilings),
            "decode": decode,
            "same_memory": same_memory,
            "comparison": list(comparison(found)),
        },
        records=_rows({"cache": caches, "limit": limits, "decode": decode + same_memory}),
        tables=tuple(tables),
        warnings=(*_model_warnings(request), *_warnings(found)),
        notes=tuple(_notes(found)),
        exit_code=_exit_code(found),
    )


def _rows(kinds: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """All records as rows of one table: what a row does not have is empty."""
    rows = [{"what": what, **record} for what, records in kinds.items() for record in records]
    flat = [{key: row[key] for key in row if not isinstance(row[key], dict | list)} for row in rows]
    keys = dict.fromkeys(key for row in flat for key in row)
    return [{key: row.get(key) for key in keys} for row in flat]


def _model_warnings(request: Request) -> Iterator[str]:
    for question in request.questions:
        spec, cache = question.spec, question.footprint()
        for warning in cache_warnings(replace(spec, weights=()), cache, draft=question.draft):
            named = warning.startswith(f"{spec.name}:")
            yield warning if named else f"{spec.name}: {warning}"


def _notes(found: Measurement) -> Iterator[str]:
    if found.card.kind == "cpu":
        yield NO_COUNTERS
    if found.limits:
        yield SEARCHED
    if found.decode:
        yield ATTENTION_ALONE


def _exit_code(found: Measurement) -> int:
    if found.failed:
        return MeasurementError.exit_code
    sound = all(not each.shortened and (each.proved or each.unpredicted) for each in found.caches)
    fits = not found.unfit and all(each.weights_fit for each in found.limits)
    return 0 if sound and fits else DOES_NOT_FIT


def _inputs(request: Request, saved: str | None) -> dict[str, Any]:
    first = request.questions[0]
    return {
        "models": [question.spec.name for question in request.questions],
        "context_tokens": first.context_tokens,
        "sequences": first.sequences,
        "kv_cache_dtype": first.footprint().kv_cache_dtype,
        "draft": first.draft,
        "tensor_parallel": first.tensor_parallel,
        "page_tokens": first.page_tokens,
        "layouts": [layout.value for layout in request.layouts],
        "device": request.device,
        "max_bytes": request.max_bytes,
        "find_max": request.find_max,
        "reserve_weights": request.reserve_weights,
        "decode": request.decode,
        "kernel": request.kernel.value,
        "saved": saved,
    }


def _asked(question: CacheQuestion) -> dict[str, Any]:
    return {
        "name": question.spec.name,
        "context_tokens": question.context_tokens,
        "sequences": question.sequences,
        "tensor_parallel": question.tensor_parallel,
        "kv_cache_dtype": question.footprint().kv_cache_dtype,
    }


def _card_record(card: Card) -> dict[str, Any]:
    return asdict(card) | {
        "allocator_options": list(card.allocator_options),
        "process_bytes": card.process_bytes,
        "basis": "measured",
    }


def _cache_record(each: CacheMeasurement) -> dict[str, Any]:
    counters = _counters(each)
    planned = each.planned_bytes
    return {
        **_asked(each.question),
        "layout": each.layout.value,
        "asked_tokens": each.asked_tokens,
        "grown_tokens": GROWTH_TOKENS if each.layout is CacheLayout.GROWN else 0,
        "tensors": each.tensors,
        "planned_bytes": planned,
        **counters,
        "differences": {
            name: None if size is None else size - planned for name, size in counters.items()
        },
        "written_and_read_back": each.intact,
        "left_bytes": each.left_bytes,
        "proved": each.proved,
        "allocate_seconds": each.allocate_seconds,
        "write_seconds": each.write_seconds,
        "read_seconds": each.read_seconds,
        "free_seconds": each.free_seconds,
        "basis": "measured",
    }


def _counters(each: CacheMeasurement) -> dict[str, int | None]:
    """What each counter showed, and what was predicted of it."""
    expected = each.predicted
    return {
        "tensor_bytes": each.tensor_bytes,
        "allocated_bytes": each.allocated_bytes,
        "reserved_bytes": each.reserved_bytes,
        "device_bytes": each.device_bytes,
        "peak_bytes": each.peak_bytes,
        "predicted_allocated_bytes": expected.allocated_bytes if expected else None,
        "predicted_device_bytes": expected.reserved_bytes if expected else None,
        "predicted_peak_bytes": expected.peak_bytes if expected else None,
    }


def _limits_record(each: Limits) -> dict[str, Any]:
    return {
        **_asked(each.question),
        "layout": each.layout.value,
        "weights_bytes": each.weights_bytes or None,
        "weights_fit": each.weights_fit,
        "plan_max_context_tokens": each.plan.max_context_tokens if each.plan else None,
        "plan_max_sequences": each.plan.max_sequences if each.plan else None,
        "max_context_tokens": each.context.found if each.context else None,
        "max_sequences": each.sequences.found if each.sequences else None,
        "context_search": _limit_record(each.context),
        "sequences_search": _limit_record(each.sequences),
        "basis": "measured",
    }


def _limit_record(limit: Limit | None) -> dict[str, Any] | None:
    return None if limit is None else asdict(limit) | {"exact": limit.exact}


def _ceilings_record(ceilings: Ceilings | None) -> dict[str, Any] | None:
    return None if ceilings is None else asdict(ceilings) | {"basis": "measured"}


def _decode_record(each: DecodeMeasurement, ceilings: Ceilings | None) -> dict[str, Any]:
    return {
        **_asked(each.caches),
        "read_bytes": each.read_bytes,
        "token_seconds": each.token_seconds,
        "tokens_per_second": each.tokens_per_second,
        "absorbed_token_seconds": each.absorbed_token_seconds,
        "naive_token_seconds": each.naive_token_seconds,
        "layers": [_layer_record(layer, ceilings) for layer in each.layers],
        "basis": "measured",
    }


def _layer_record(layer: LayerTime, ceilings: Ceilings | None) -> dict[str, Any]:
    return {
        **asdict(layer.shape),
        "distinct_caches": layer.distinct,
        "kernel": layer.best.kernel.value,
        "layer_seconds": layer.layer_seconds,
        "relative_error": layer.best.error,
        "read_bytes": layer.read_bytes,
        "read_bytes_per_second": layer.read_bytes / layer.layer_seconds,
        "flops": layer.flops,
        "flops_per_second": layer.flops / layer.layer_seconds,
        "bound_by": ceilings and layer.bound_by(ceilings),
        "roof_share": ceilings and layer.roof_share(ceilings),
        "tried": [asdict(time) for time in layer.tried],
        "latent": layer.latent and asdict(layer.latent),
    }


def _warnings(found: Measurement) -> Iterator[str]:
    yield from _card_warnings(found.card)
    yield from found.refused
    yield from found.unfit
    yield from found.failed
    for each in found.caches:
        name = f"{each.question.spec.name}, {each.layout.value}"
        if each.shortened:
            yield (
                f"{name}: {each.asked_tokens:,} tokens do not fit; "
                f"measured with {each.question.context_tokens:,}"
            )
        if not each.intact:
            yield f"{name}: what was written did not come back"
        if each.left_bytes:
            yield f"{name}: {each.left_bytes:,} bytes were not given back"
        if each.predicted and not each.proved:
            yield f"{name}: not every counter shows what was predicted"
    for limits in found.limits:
        if not limits.weights_fit:
            weights = gib(limits.weights_bytes)
            name = limits.question.spec.name
            yield f"{name}: its weights of {weights} do not fit on this device; use more -tp"
    yield from _decode_warnings(found)


def _card_warnings(card: Card) -> Iterator[str]:
    if card.driver and card.driver.other_processes:
        held = card.driver.others_bytes
        size = UNKNOWN if held is None else gib(held)
        yield f"other processes ({card.driver.other_processes}) hold {size} of this card"
    if card.allocator_options:
        options = ", ".join(card.allocator_options)
        yield f"torch's allocator is set to {options}: what it takes is not predicted"
    if card.kind == "cuda" and card.driver is None:
        yield "other processes are not seen: the driver (nvidia-ml-py) cannot be asked"


def _decode_warnings(found: Measurement) -> Iterator[str]:
    for each in (*found.decode, *filled(found)):
        for layer in each.layers:
            shape = layer.shape
            name = f"{each.caches.spec.name}, {layer.sequences:,} × {shape.entries:,}"
            if layer.distinct < shape.layers and found.card.kind == "cuda":
                yield (
                    f"{name}: {layer.distinct} of {shape.layers} layers' caches are on the device "
                    "at once; a token is their time for a layer, times the layers"
                )
            for time in layer.tried:
                if time.reason and time.available:
                    yield f"{name}: kernel {time.kernel.value}: {time.reason}"
            if layer.latent and layer.latent.naive_reason and each in found.decode:
                yield f"{name}: naive form not measured: {layer.latent.naive_reason}"
