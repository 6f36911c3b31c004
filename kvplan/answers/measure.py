"""What ``kvplan measure`` answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

from kvplan.answers.words import NOTHING, UNKNOWN, plural
from kvplan.comparison import cache_warnings
from kvplan.errors import DOES_NOT_FIT, MeasurementError
from kvplan.measure.caches import CacheMeasurement, CacheQuestion
from kvplan.measure.card import Card
from kvplan.measure.ceilings import Ceilings
from kvplan.measure.decode import DecodeMeasurement, LayerTime
from kvplan.measure.layouts import GROWTH_TOKENS
from kvplan.measure.names import Layout
from kvplan.measure.search import Limit
from kvplan.measure.session import Limits, Measurement, Request
from kvplan.report import Column, Report, Table
from kvplan.units import gib, ratio

_GIGA, _TERA = 10**9, 10**12

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
    "what is checked; its rates are examples and no roof"
)


def measure_report(request: Request, found: Measurement, saved: str | None = None) -> Report:
    """The answer of ``kvplan measure``.

    Exit code 1 where a cache or its weights did not fit, or a counter shows what was not
    predicted.
    """
    caches = [_cache_record(each) for each in found.caches]
    limits = [_limits_record(each) for each in found.limits]
    decode = [_decode_record(each, found) for each in found.decode]
    same_memory = [_decode_record(each, found) for each in found.same_memory]
    tables = [_card_table(found)]
    if found.caches:
        tables.append(_caches_table(found))
    if found.limits:
        tables.append(_limits_table(found.limits))
    if found.decode:
        tables += _decode_tables(found)
    return Report(
        command="measure",
        inputs=_inputs(request, saved),
        payload={
            "card": _card_record(found),
            "caches": caches,
            "checked_seconds": found.seconds,
            "limits": limits,
            "ceilings": _ceilings_record(found.ceilings),
            "decode": decode,
            "same_memory": same_memory,
            "comparison": list(_comparison(found)),
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
    return DOES_NOT_FIT if _failed(found) else 0


def _failed(found: Measurement) -> bool:
    caches = any(each.shortened or not (each.proved or each.unpredicted) for each in found.caches)
    return caches or bool(found.unfit) or any(not each.weights_fit for each in found.limits)


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


def _card_record(found: Measurement) -> dict[str, Any]:
    card = asdict(found.card)
    return card | {
        "allocator_options": list(found.card.allocator_options),
        "process_bytes": found.card.process_bytes,
        "basis": "measured",
    }


def _cache_record(each: CacheMeasurement) -> dict[str, Any]:
    return {
        **_asked(each.question),
        "layout": each.layout.value,
        "asked_tokens": each.asked_tokens,
        "grown_tokens": GROWTH_TOKENS if each.layout is Layout.GROWN else 0,
        "tensors": each.tensors,
        "planned_bytes": each.planned_bytes,
        "tensor_bytes": each.tensor_bytes,
        "allocated_bytes": each.allocated_bytes,
        "reserved_bytes": each.reserved_bytes,
        "device_bytes": each.device_bytes,
        "peak_bytes": each.peak_bytes,
        "predicted_allocated_bytes": each.predicted and each.predicted.allocated_bytes,
        "predicted_device_bytes": each.predicted and each.predicted.reserved_bytes,
        "predicted_peak_bytes": each.predicted and each.predicted.peak_bytes,
        "differences": _differences(each),
        "written_and_read_back": each.intact,
        "left_bytes": each.left_bytes,
        "proved": each.proved,
        "allocate_seconds": each.allocate_seconds,
        "write_seconds": each.write_seconds,
        "read_seconds": each.read_seconds,
        "free_seconds": each.free_seconds,
        "basis": "measured",
    }


def _differences(each: CacheMeasurement) -> dict[str, int | None]:
    """Every counter, and what was predicted of it, less the planned bytes."""
    expected = each.predicted
    counters = {
        "tensor_bytes": each.tensor_bytes,
        "allocated_bytes": each.allocated_bytes,
        "reserved_bytes": each.reserved_bytes,
        "device_bytes": each.device_bytes,
        "peak_bytes": each.peak_bytes,
        "predicted_allocated_bytes": expected.allocated_bytes if expected else None,
        "predicted_device_bytes": expected.reserved_bytes if expected else None,
        "predicted_peak_bytes": expected.peak_bytes if expected else None,
    }
    return {
        name: None if size is None else size - each.planned_bytes for name, size in counters.items()
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


def _decode_record(each: DecodeMeasurement, found: Measurement) -> dict[str, Any]:
    return {
        **_asked(each.caches),
        "read_bytes": each.read_bytes,
        "token_seconds": each.token_seconds,
        "tokens_per_second": each.tokens_per_second,
        "absorbed_token_seconds": each.absorbed_token_seconds,
        "naive_token_seconds": each.naive_token_seconds,
        "layers": [_layer_record(layer, _roof(found)) for layer in each.layers],
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


def _comparison(found: Measurement) -> Iterator[dict[str, Any]]:
    """Every further model against the first: bytes, time, and what the same memory brings."""
    for measured in found.decode[1:]:
        first = found.decode[0]
        name = measured.caches.spec.name
        filled = next((each for each in found.same_memory if each.caches.spec.name == name), None)
        yield {
            "name": name,
            "against": first.caches.spec.name,
            "bytes_ratio": first.read_bytes / measured.read_bytes,
            "time_ratio": first.token_seconds / measured.token_seconds,
            "same_memory_bytes": first.read_bytes,
            "same_memory_sequences": filled and filled.caches.sequences,
            "same_memory_tokens_per_second": filled and filled.tokens_per_second,
            "tokens_per_second_ratio": filled
            and filled.tokens_per_second / first.tokens_per_second,
            "basis": "measured",
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
    for each in (*found.decode, *_filled(found)):
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


def _card_table(found: Measurement) -> Table:
    card = found.card
    total = sum(each.planned_bytes for each in found.caches)
    free, usable = gib(card.free_bytes), gib(card.usable_bytes)
    facts = [
        ("memory", f"{gib(card.total_bytes)}, {free} free, {usable} can be taken"),
        ("driver", _driver(card)),
        ("one process", _process(card)),
        ("software", _software(card)),
        ("checked", f"{gib(total)} in {found.seconds:.2f} s: allocated, written, read, given back"),
    ]
    if found.ceilings:
        read = found.ceilings.read_bytes_per_second / _GIGA
        products = found.ceilings.matmul_flops_per_second / _TERA
        facts.append(
            ("ceilings", f"reads {read:,.0f} GB/s, matrix products {products:,.3g} TFLOP/s")
        )
    columns = (Column("Fact", "left"), Column("Value", "left"))
    shown = tuple(fact for fact in facts if fact[1])
    return Table(card.name, columns, shown, headed=False)


def _driver(card: Card) -> str:
    if card.driver is None:
        return ""
    total, free = gib(card.driver.total_bytes), gib(card.driver.free_bytes)
    return f"{card.driver.version}: {total}, {free} free before this process"


def _process(card: Card) -> str:
    parts = {
        "context": card.context_bytes,
        "first kernels": card.kernels_bytes,
        "matrix products": card.matmul_bytes,
    }
    known = [f"{name} {gib(size)}" for name, size in parts.items() if size is not None]
    return ", ".join(known)


def _software(card: Card) -> str:
    segments = ", expandable segments" if card.expandable_segments else ""
    return f"torch {card.torch_version}{segments}"


def _caches_table(found: Measurement) -> Table:
    counted = any(each.allocated_bytes is not None for each in found.caches)
    peaks = any(each.peak_bytes != each.reserved_bytes for each in found.caches)
    columns = [
        Column("Cache", "left"),
        Column("Tokens"),
        Column("Planned B"),
        Column("Tensors"),
    ]
    if counted:
        columns += [
            Column(title, part=1) for title in ("Allocated", "Reserved", "Device", "Predicted")
        ]
    if peaks:
        columns += [Column(title, part=2) for title in ("Peak", "Peak predicted")]
    columns.append(Column("", "left", part=columns[-1].part))
    rows = tuple(_cache_row(each, counted=counted, peaks=peaks) for each in found.caches)
    asked = found.caches[0].question
    counters = "; counters as differences from the plan" if counted else ""
    title = f"{plural(asked.sequences)} each{_share(asked)}{counters}"
    return Table(title, tuple(columns), rows)


def _share(asked: CacheQuestion) -> str:
    return f", one GPU of TP{asked.tensor_parallel}" if asked.tensor_parallel > 1 else ""


def _cache_row(each: CacheMeasurement, *, counted: bool, peaks: bool) -> tuple[str, ...]:
    planned, expected = each.planned_bytes, each.predicted
    counters = [each.allocated_bytes, each.reserved_bytes, each.device_bytes]
    counters.append(expected.reserved_bytes if expected else None)
    if peaks:
        counters += [each.peak_bytes, expected.peak_bytes if expected else None]
    return (
        f"{each.question.spec.name}, {each.layout.value}",
        _tokens(each),
        f"{planned:,}",
        f"{each.tensor_bytes - planned:+,}",
        *((_difference(size, planned) for size in counters) if counted else ()),
        _verdict(each),
    )


def _tokens(each: CacheMeasurement) -> str:
    grown = f"+{GROWTH_TOKENS}" if each.layout is Layout.GROWN else ""
    return f"{each.question.context_tokens:,}{grown}"


def _difference(size: int | None, planned: int) -> str:
    return NOTHING if size is None else f"{size - planned:+,}"


def _verdict(each: CacheMeasurement) -> str:
    if each.proved:
        right = "bytes right" if each.allocated_bytes is None else "proved"
        return "shortened" if each.shortened else right
    return "not predicted" if each.unpredicted else "NOT PROVED"


def _limits_table(limits: tuple[Limits, ...]) -> Table:
    columns = (
        Column("Most", "left"),
        Column("Found"),
        Column("Planner"),
        Column("With rounding", part=1),
        Column("Allocations", part=1),
        Column("Left", part=1),
    )
    rows = [row for each in limits for row in _limit_rows(each)]
    first = limits[0]
    weights = " beside the weights" if any(each.weights_bytes for each in limits) else ""
    title = (
        f"What the device holds{weights}, {first.layout.value}{_share(first.question)}: tokens for "
        f"{plural(first.question.sequences)}, sequences of {first.question.context_tokens:,}"
    )
    return Table(title, columns, tuple(rows))


def _limit_rows(each: Limits) -> Iterator[tuple[str, ...]]:
    tokens = each.plan.max_context_tokens if each.plan else None
    sequences = each.plan.max_sequences if each.plan else None
    whats = (("tokens", each.context, tokens), ("sequences", each.sequences, sequences))
    for what, limit, planned in whats:
        head = (f"{each.question.spec.name}, {what}",)
        if not each.weights_fit:
            yield (*head, "weights do not fit", *[NOTHING] * 4)
        elif limit is None:
            yield (*head, "any", *[NOTHING] * 4)
        else:
            sure = "" if limit.exact else " or more"
            yield (
                *head,
                f"{limit.found:,}{sure}",
                _or_nothing(planned, "{:,}"),
                f"{limit.allocator:,}",
                str(limit.allocations),
                gib(limit.left_bytes),
            )


def _roof(found: Measurement) -> Ceilings | None:
    """The ceilings that a share is taken of; a CPU's are no more than examples."""
    return found.ceilings if found.card.kind == "cuda" else None


def _decode_tables(found: Measurement) -> list[Table]:
    tables = [_attention_table((*found.decode, *_filled(found)), _roof(found))]
    if any(each.absorbed_token_seconds for each in found.decode):
        tables.append(_latent_table(found))
    if found.same_memory:
        tables.append(_comparison_table(found))
    return tables


def _filled(found: Measurement) -> list[DecodeMeasurement]:
    return [each for each in found.same_memory if each not in found.decode]


def _attention_table(decoded: tuple[DecodeMeasurement, ...], roof: Ceilings | None) -> Table:
    columns = (
        Column("Cache", "left"),
        Column("Layers", "left"),
        Column("Kernel", "left"),
        Column("µs/layer"),
        Column("ms/token"),
        Column("GB/s", part=1),
        Column("TFLOP/s", part=1),
        Column("Bound by", "left", part=1),
        Column("Of roof", part=1),
        Column("Error", part=1),
    )
    rows = tuple(
        (
            f"{each.caches.spec.name}, {layer.sequences:,} × {layer.shape.entries:,}",
            f"{layer.shape.layers} {layer.shape.label}",
            layer.best.kernel.value,
            f"{layer.layer_seconds * 10**6:,.1f}",
            f"{layer.shape.layers * layer.layer_seconds * 1_000:,.2f}",
            f"{layer.read_bytes / layer.layer_seconds / _GIGA:,.{0 if roof else 2}f}",
            f"{layer.flops / layer.layer_seconds / _TERA:,.3g}",
            layer.bound_by(roof) if roof else NOTHING,
            f"{100 * layer.roof_share(roof):.0f}%" if roof else NOTHING,
            f"{layer.best.error:.1e}",
        )
        for each in decoded
        for layer in each.layers
    )
    return Table("One decode step of attention over the cache", columns, rows)


def _latent_table(found: Measurement) -> Table:
    columns = (
        Column("Model", "left"),
        Column("Attention"),
        Column("+ projections"),
        Column("= absorbed"),
        Column("Naive"),
        Column("Naive costs"),
    )
    rows = []
    for each in found.decode:
        absorbed, naive = each.absorbed_token_seconds, each.naive_token_seconds
        if absorbed is None:
            continue
        rows.append(
            (
                each.caches.spec.name,
                _milliseconds(each.token_seconds),
                _milliseconds(absorbed - each.token_seconds),
                _milliseconds(absorbed),
                NOTHING if naive is None else _milliseconds(naive),
                NOTHING if naive is None else f"{ratio(naive / absorbed)}×",
            )
        )
    title = "MLA a token, all layers: absorbed, and with the latent expanded at each step"
    return Table(title, columns, tuple(rows))


def _milliseconds(seconds: float) -> str:
    return f"{1_000 * seconds:,.2f} ms"


def _comparison_table(found: Measurement) -> Table:
    first = found.decode[0]
    name = first.caches.spec.name
    columns = (
        Column("Model", "left"),
        Column("Bytes read"),
        Column("Time"),
        Column("Sequences", part=1),
        Column("Tokens/s", part=1),
        Column("Tokens/s, ratio", part=1),
    )
    start = (
        name,
        gib(first.read_bytes),
        _milliseconds(first.token_seconds),
        f"{first.caches.sequences:,}",
        f"{first.tokens_per_second:,.0f}",
        "1×",
    )
    rows = [
        (
            each["name"],
            _against(each["bytes_ratio"]),
            _against(each["time_ratio"]),
            _or_nothing(each["same_memory_sequences"], "{:,}"),
            _or_nothing(each["same_memory_tokens_per_second"], "{:,.0f}"),
            _or_nothing(each["tokens_per_second_ratio"], "{:.2f}×"),
        )
        for each in _comparison(found)
    ]
    title = f"A token against {name}'s; sequences and tokens/s in the same {gib(first.read_bytes)}"
    return Table(title, columns, (start, *rows))


def _against(less: float) -> str:
    return f"{ratio(less)}× less" if less >= 1 else f"{ratio(1 / less)}× more"


def _or_nothing(value: float | None, form: str) -> str:
    return NOTHING if value is None else form.format(value)
