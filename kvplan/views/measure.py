"""What ``kvplan measure`` answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

from kvplan.errors import DOES_NOT_FIT, MeasurementError
from kvplan.measure.layouts import GROWTH_TOKENS, cache_footprint
from kvplan.measure.question import CacheLayout, CacheQuestion, Request
from kvplan.measure.rates import Ceilings, DecodeMeasurement, LayerTime
from kvplan.measure.results import CacheMeasurement, Card, Maxima, Maximum, Measurement
from kvplan.report import UNKNOWN, Answer, Note, Report, Table
from kvplan.spec import ModelSpec
from kvplan.units import gib, plural
from kvplan.views.beside import name_notes
from kvplan.views.class_defaults import class_default_notes
from kvplan.views.measure_tables import (
    caches_table,
    card_table,
    comparison,
    decode_tables,
    further_steps,
    maxima_table,
)
from kvplan.views.words import cache_caveats

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


def measure_report(request: Request, measurement: Measurement, saved: str | None = None) -> Report:
    """The answer of ``kvplan measure``.

    Exit code 1 where a cache or its weights did not fit, or a counter shows what was not
    predicted.
    """
    ceilings = measurement.ceilings
    caches = [_cache_record(cache) for cache in measurement.caches]
    limits = [_maxima_record(maxima) for maxima in measurement.maxima]
    decode = [_decode_record(step, ceilings) for step in measurement.decode]
    same_memory = [_decode_record(step, ceilings) for step in measurement.same_memory]
    return Report(
        command="measure",
        inputs=_inputs(request, saved),
        payload={
            "card": _card_record(measurement.card),
            "caches": caches,
            "checked_seconds": measurement.seconds,
            "limits": limits,
            "ceilings": _ceilings_record(ceilings),
            "decode": decode,
            "same_memory": same_memory,
            "comparison": list(comparison(measurement)),
        },
        records=_rows({"cache": caches, "limit": limits, "decode": decode + same_memory}),
        answer=_answer(measurement),
        tables=tuple(_tables(measurement)),
        warnings=(*_model_warnings(request), *_warnings(measurement)),
        notes=(
            *name_notes(_specs(request)),
            *_notes(measurement),
            *class_default_notes(question.spec for question in request.questions),
        ),
        exit_code=_exit_code(measurement),
    )


def _answer(measurement: Measurement) -> Answer:
    """Whether the device agrees with the plan, in a sentence."""
    card, caches = measurement.card, measurement.caches
    count = plural(len(caches), "cache")
    wrong = sum(not (cache.is_proved or cache.is_unpredicted) for cache in caches)
    total = gib(sum(cache.planned_bytes for cache in caches))
    code = _exit_code(measurement)
    if wrong:
        return Answer(f"{card.name} does not agree with the plan: {wrong} of {count}.", "bad")
    if code:
        agrees = f"{count}, {total}, agree with the plan; not all fitted or ran."
        return Answer(f"{card.name}: {agrees}", "bad")
    if not caches:
        return Answer(f"Measured on {card.name}.")
    counters = "tensors' bytes" if card.kind == "cpu" else "every counter"
    return Answer(f"{card.name} agrees with the plan: {count}, {total}, {counters} to the byte.")


def _tables(measurement: Measurement) -> Iterator[Table]:
    yield card_table(measurement)
    if measurement.caches:
        yield caches_table(measurement)
    if measurement.maxima:
        yield maxima_table(measurement.maxima)
    if measurement.decode:
        yield from decode_tables(measurement)


def _rows(kinds: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """All records as rows of one table: what a row does not have is empty."""
    rows = [{"what": what, **record} for what, records in kinds.items() for record in records]
    flat = [{key: row[key] for key in row if not isinstance(row[key], dict | list)} for row in rows]
    keys = dict.fromkeys(key for row in flat for key in row)
    return [{key: row.get(key) for key in keys} for row in flat]


def _model_warnings(request: Request) -> Iterator[str]:
    for question in request.questions:
        spec, cache = question.spec, cache_footprint(question)
        for warning in cache_caveats(replace(spec, weights=()), cache, draft=question.draft):
            named = warning.startswith(f"{spec.name}:")
            yield warning if named else f"{spec.name}: {warning}"


def _specs(request: Request) -> Iterator[ModelSpec | None]:
    for question in request.questions:
        yield from (question.spec, question.drafter)


def _notes(measurement: Measurement) -> Iterator[Note]:
    if measurement.card.kind == "cpu":
        yield Note("", NO_COUNTERS)
    if measurement.maxima:
        yield Note("what was searched", SEARCHED)
    if measurement.decode:
        yield Note("attention alone", ATTENTION_ALONE)


def _exit_code(measurement: Measurement) -> int:
    if measurement.failed:
        return MeasurementError.exit_code
    right = all(
        not cache.is_short and (cache.is_proved or cache.is_unpredicted)
        for cache in measurement.caches
    )
    fits = not measurement.unfit and all(maxima.weights_fit for maxima in measurement.maxima)
    return 0 if right and fits else DOES_NOT_FIT


def _inputs(request: Request, saved: str | None) -> dict[str, Any]:
    first = request.questions[0]
    return {
        "models": [question.spec.name for question in request.questions],
        "context_tokens": first.context_tokens,
        "sequences": first.sequences,
        "kv_cache_dtype": cache_footprint(first).kv_cache_dtype,
        **(asdict(first.beside) if first.beside else {}),
        "draft": first.draft,
        "draft_model": first.drafter and first.drafter.name,
        "draft_kv_cache_dtype": first.draft_kv_cache_dtype,
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


def _question_record(question: CacheQuestion) -> dict[str, Any]:
    return {
        "name": question.spec.name,
        "context_tokens": question.context_tokens,
        "sequences": question.sequences,
        "tensor_parallel": question.tensor_parallel,
        "kv_cache_dtype": cache_footprint(question).kv_cache_dtype,
    }


def _card_record(card: Card) -> dict[str, Any]:
    return asdict(card) | {
        "allocator_options": list(card.allocator_options),
        "process_bytes": card.process_bytes,
        "basis": "measured",
    }


def _cache_record(cache: CacheMeasurement) -> dict[str, Any]:
    counters = _counters(cache)
    planned = cache.planned_bytes
    return {
        **_question_record(cache.question),
        "layout": cache.layout.value,
        "asked_tokens": cache.asked_tokens,
        "grown_tokens": GROWTH_TOKENS if cache.layout is CacheLayout.GROWN else 0,
        "tensors": cache.tensors,
        "planned_bytes": planned,
        **counters,
        "differences": {
            name: None if size is None else size - planned for name, size in counters.items()
        },
        "written_and_read_back": cache.intact,
        "left_bytes": cache.left_bytes,
        "proved": cache.is_proved,
        "allocate_seconds": cache.allocate_seconds,
        "write_seconds": cache.write_seconds,
        "read_seconds": cache.read_seconds,
        "free_seconds": cache.free_seconds,
        "basis": "measured",
    }


def _counters(cache: CacheMeasurement) -> dict[str, int | None]:
    """What cache counter showed, and what was predicted of it."""
    expected = cache.prediction
    return {
        "tensor_bytes": cache.tensor_bytes,
        "allocated_bytes": cache.allocated_bytes,
        "reserved_bytes": cache.reserved_bytes,
        "device_bytes": cache.device_bytes,
        "peak_bytes": cache.peak_bytes,
        "predicted_allocated_bytes": expected.allocated_bytes if expected else None,
        "predicted_device_bytes": expected.reserved_bytes if expected else None,
        "predicted_peak_bytes": expected.peak_bytes if expected else None,
    }


def _maxima_record(maxima: Maxima) -> dict[str, Any]:
    return {
        **_question_record(maxima.question),
        "layout": maxima.layout.value,
        "weights_bytes": maxima.weights_bytes or None,
        "weights_fit": maxima.weights_fit,
        "plan_max_context_tokens": maxima.plan_context_tokens,
        "plan_max_sequences": maxima.plan_sequences,
        "max_context_tokens": maxima.context.value if maxima.context else None,
        "max_sequences": maxima.sequences.value if maxima.sequences else None,
        "context_search": _search_record(maxima.context),
        "sequences_search": _search_record(maxima.sequences),
        "basis": "measured",
    }


def _search_record(maximum: Maximum | None) -> dict[str, Any] | None:
    if maximum is None:
        return None
    return {
        "found": maximum.value,
        "refused": maximum.refused,
        "allocator": maximum.by_rules,
        "allocations": maximum.allocations,
        "planned_bytes": maximum.planned_bytes,
        "left_bytes": maximum.left_bytes,
        "exact": maximum.exact,
    }


def _ceilings_record(ceilings: Ceilings | None) -> dict[str, Any] | None:
    return None if ceilings is None else asdict(ceilings) | {"basis": "measured"}


def _decode_record(decode: DecodeMeasurement, ceilings: Ceilings | None) -> dict[str, Any]:
    return {
        **_question_record(decode.caches),
        "read_bytes": decode.read_bytes,
        "token_seconds": decode.token_seconds,
        "tokens_per_second": decode.tokens_per_second,
        "absorbed_token_seconds": decode.absorbed_token_seconds,
        "naive_token_seconds": decode.naive_token_seconds,
        "layers": [_layer_record(layer, ceilings) for layer in decode.layers],
        "basis": "measured",
    }


def _layer_record(layer: LayerTime, ceilings: Ceilings | None) -> dict[str, Any]:
    return {
        **asdict(layer.shape),
        "distinct_caches": layer.distinct_caches,
        "kernel": layer.best.kernel.value,
        "layer_seconds": layer.layer_seconds,
        "relative_error": layer.best.error,
        "read_bytes": layer.read_bytes,
        "read_bytes_per_second": layer.read_bytes / layer.layer_seconds,
        "flops": layer.flops,
        "flops_per_second": layer.flops / layer.layer_seconds,
        "bound_by": ceilings and layer.bound_by(ceilings),
        "roof_share": ceilings and layer.roof_share(ceilings),
        "tried": [asdict(time) for time in layer.times],
        "latent": layer.latent and asdict(layer.latent),
    }


def _warnings(measurement: Measurement) -> Iterator[str]:
    yield from _card_warnings(measurement.card)
    yield from measurement.refused
    yield from measurement.unfit
    yield from measurement.failed
    for cache in measurement.caches:
        yield from _cache_warnings(cache)
    for maxima in measurement.maxima:
        if not maxima.weights_fit:
            weights = gib(maxima.weights_bytes)
            name = maxima.question.spec.name
            yield f"{name}: its weights of {weights} do not fit on this device; use more -tp"
    yield from _decode_warnings(measurement)


def _cache_warnings(cache: CacheMeasurement) -> Iterator[str]:
    name = f"{cache.question.spec.name}, {cache.layout.value}"
    if cache.is_short:
        yield (
            f"{name}: {cache.asked_tokens:,} tokens do not fit; "
            f"measured with {cache.question.context_tokens:,}"
        )
    if not cache.intact:
        yield f"{name}: what was written did not come back"
    if cache.left_bytes:
        yield f"{name}: {cache.left_bytes:,} bytes were not given back"
    if cache.prediction and not cache.is_proved:
        yield f"{name}: not every counter shows what was predicted"


def _card_warnings(card: Card) -> Iterator[str]:
    if card.driver and card.driver.other_processes:
        others = card.driver.others_bytes
        size = UNKNOWN if others is None else gib(others)
        yield f"other processes ({card.driver.other_processes}) hold {size} of this card"
    if card.allocator_options:
        options = ", ".join(card.allocator_options)
        yield f"torch's allocator is set to {options}: what it takes is not predicted"
    if card.kind == "cuda" and card.driver is None:
        yield "other processes are not seen: the driver (nvidia-ml-py) cannot be asked"


def _decode_warnings(measurement: Measurement) -> Iterator[str]:
    for step in (*measurement.decode, *further_steps(measurement)):
        for layer in step.layers:
            shape = layer.shape
            name = f"{step.caches.spec.name}, {layer.sequences:,} × {shape.entries:,}"
            if layer.distinct_caches < shape.layers and measurement.card.kind == "cuda":
                yield (
                    f"{name}: {layer.distinct_caches} of {shape.layers} layers' caches are on the "
                    "device at once; a token is their time for a layer, times the layers"
                )
            for time in layer.times:
                if time.reason and time.available:
                    yield f"{name}: kernel {time.kernel.value}: {time.reason}"
            if layer.latent and layer.latent.naive_reason and step in measurement.decode:
                yield f"{name}: naive form not measured: {layer.latent.naive_reason}"
