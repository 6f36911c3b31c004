"""The tables of ``kvplan measure``, and what is compared in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kvplan.measure.layouts import GROWTH_TOKENS
from kvplan.measure.question import CacheLayout, CacheQuestion
from kvplan.measure.rates import Ceilings, DecodeMeasurement
from kvplan.measure.results import CacheMeasurement, Card, Maxima, Maximum, Measurement
from kvplan.report import NO_LIMIT, NOTHING, Column, Table
from kvplan.units import gib, plural, ratio

_GIGA, _TERA = 10**9, 10**12


def comparison(measurement: Measurement) -> Iterator[dict[str, Any]]:
    """Every further model against the first: bytes, time, and what the same memory brings."""
    for step in measurement.decode[1:]:
        first = measurement.decode[0]
        spec = step.caches.spec
        full = next((full for full in measurement.same_memory if full.caches.spec == spec), None)
        yield {
            "name": spec.name,
            "against": first.caches.spec.name,
            "bytes_ratio": first.read_bytes / step.read_bytes,
            "time_ratio": first.token_seconds / step.token_seconds,
            "same_memory_bytes": first.read_bytes,
            "same_memory_sequences": full and full.caches.sequences,
            "same_memory_tokens_per_second": full and full.tokens_per_second,
            "tokens_per_second_ratio": full and full.tokens_per_second / first.tokens_per_second,
            "basis": "measured",
        }


def card_table(measurement: Measurement) -> Table:
    """What the device has, and how long the check of the caches took."""
    card = measurement.card
    total = sum(cache.planned_bytes for cache in measurement.caches)
    free, usable = gib(card.free_bytes), gib(card.usable_bytes)
    facts = [
        ("memory", f"{gib(card.total_bytes)}, {free} free, {usable} can be taken"),
        ("driver", _driver(card)),
        ("one process", _process(card)),
        ("software", _software(card)),
        (
            "checked",
            f"{gib(total)} in {measurement.seconds:.2f} s: allocated, written, read, given back",
        ),
    ]
    if measurement.ceilings:
        read = measurement.ceilings.read_bytes_per_second / _GIGA
        products = measurement.ceilings.matmul_flops_per_second / _TERA
        facts.append(
            ("ceilings", f"reads {read:,.0f} GB/s, matrix products {products:,.3g} TFLOP/s")
        )
    columns = (Column("Fact", "left"), Column("Value", "left"))
    known = tuple(fact for fact in facts if fact[1])
    return Table(card.name, columns, known, headed=False)


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


def caches_table(measurement: Measurement) -> Table:
    """Each cache with its counters, less the planned bytes, as far as the device counts."""
    counted = any(cache.allocated_bytes is not None for cache in measurement.caches)
    peaks = any(cache.peak_bytes != cache.reserved_bytes for cache in measurement.caches)
    columns = [
        Column("Cache", "left"),
        Column("Tokens"),
        Column("Planned B", rank=1),
        Column("Tensors", rank=2),
    ]
    if counted:
        columns += [
            Column(title, rank=3) for title in ("Allocated", "Reserved", "Device", "Predicted")
        ]
    if peaks:
        columns += [Column(title, rank=4) for title in ("Peak", "Peak predicted")]
    columns.append(Column("Verdict", "left"))
    rows = tuple(_cache_row(cache, counted=counted, peaks=peaks) for cache in measurement.caches)
    asked = measurement.caches[0].question
    counters = "; counters as differences from the plan" if counted else ""
    title = f"{plural(asked.sequences, 'sequence')} each{_share(asked)}{counters}"
    return Table(title, tuple(columns), rows)


def _share(asked: CacheQuestion) -> str:
    return f", one GPU of TP{asked.tensor_parallel}" if asked.tensor_parallel > 1 else ""


def _cache_row(cache: CacheMeasurement, *, counted: bool, peaks: bool) -> tuple[str, ...]:
    planned, expected = cache.planned_bytes, cache.prediction
    counters = [cache.allocated_bytes, cache.reserved_bytes, cache.device_bytes]
    counters.append(expected.reserved_bytes if expected else None)
    if peaks:
        counters += [cache.peak_bytes, expected.peak_bytes if expected else None]
    return (
        f"{cache.question.spec.name}, {cache.layout.value}",
        _tokens(cache),
        f"{planned:,}",
        f"{cache.tensor_bytes - planned:+,}",
        *((_difference(size, planned) for size in counters) if counted else ()),
        _verdict(cache),
    )


def _tokens(cache: CacheMeasurement) -> str:
    grown = f"+{GROWTH_TOKENS}" if cache.layout is CacheLayout.GROWN else ""
    return f"{cache.question.context_tokens:,}{grown}"


def _difference(size: int | None, planned: int) -> str:
    return NOTHING if size is None else f"{size - planned:+,}"


def _verdict(cache: CacheMeasurement) -> str:
    if cache.is_proved:
        right = "bytes right" if cache.allocated_bytes is None else "proved"
        return "shortened" if cache.is_short else right
    return "not predicted" if cache.is_unpredicted else "NOT PROVED"


def maxima_table(models: tuple[Maxima, ...]) -> Table:
    """What was found by allocating, beside what was said of it beforehand."""
    columns = (
        Column("Most", "left"),
        Column("Found"),
        Column("Planner"),
        Column("With rounding", rank=1),
        Column("Allocations", rank=1),
        Column("Left", rank=1),
    )
    rows = [row for maxima in models for row in _maxima_rows(maxima)]
    first = models[0]
    asked = first.question
    weights = " beside the weights" if any(maxima.weights_bytes for maxima in models) else ""
    title = (
        f"What the device holds{weights}, {first.layout.value}{_share(asked)}: tokens for "
        f"{plural(asked.sequences, 'sequence')}, sequences of {asked.context_tokens:,}"
    )
    return Table(title, columns, tuple(rows))


def _maxima_rows(maxima: Maxima) -> Iterator[tuple[str, ...]]:
    yield _maximum_row(maxima, "tokens", maxima.context, maxima.plan_context_tokens)
    yield _maximum_row(maxima, "sequences", maxima.sequences, maxima.plan_sequences)


def _maximum_row(
    maxima: Maxima, what: str, maximum: Maximum | None, planned: int | None
) -> tuple[str, ...]:
    name = f"{maxima.question.spec.name}, {what}"
    if not maxima.weights_fit or maximum is None:
        value = NO_LIMIT if maxima.weights_fit else "weights do not fit"
        return (name, value, *[NOTHING] * 4)
    return (
        name,
        f"{maximum.value:,}{'' if maximum.exact else ' or more'}",
        _or_nothing(planned, "{:,}"),
        f"{maximum.by_rules:,}",
        str(maximum.allocations),
        gib(maximum.left_bytes),
    )


def decode_tables(measurement: Measurement) -> list[Table]:
    """A step of each model; MLA's two forms; the models side by side."""
    tables = [
        _attention_table((*measurement.decode, *further_steps(measurement)), measurement.ceilings)
    ]
    if any(step.absorbed_token_seconds for step in measurement.decode):
        tables.append(_latent_table(measurement))
    if measurement.same_memory:
        tables.append(_comparison_table(measurement))
    return tables


def further_steps(measurement: Measurement) -> list[DecodeMeasurement]:
    """Steps that were measured for the comparison alone."""
    return [step for step in measurement.same_memory if step not in measurement.decode]


def _attention_table(steps: tuple[DecodeMeasurement, ...], roof: Ceilings | None) -> Table:
    columns = (
        Column("Cache", "left"),
        Column("Layers", "left"),
        Column("Kernel", "left"),
        Column("µs/layer"),
        Column("ms/token"),
        Column("GB/s", rank=1),
        Column("TFLOP/s", rank=1),
        Column("Bound by", "left", rank=1),
        Column("Of roof", rank=1),
        Column("Error", rank=1),
    )
    rows = tuple(
        (
            f"{step.caches.spec.name}, {layer.sequences:,} × {layer.shape.entries:,}",
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
        for step in steps
        for layer in step.layers
    )
    return Table("One decode step of attention over the cache", columns, rows)


def _latent_table(measurement: Measurement) -> Table:
    columns = (
        Column("Model", "left"),
        Column("Attention"),
        Column("+ projections"),
        Column("= absorbed"),
        Column("Naive"),
        Column("Naive costs"),
    )
    rows = []
    for step in measurement.decode:
        absorbed, naive = step.absorbed_token_seconds, step.naive_token_seconds
        if absorbed is None:
            continue
        rows.append(
            (
                step.caches.spec.name,
                _milliseconds(step.token_seconds),
                _milliseconds(absorbed - step.token_seconds),
                _milliseconds(absorbed),
                NOTHING if naive is None else _milliseconds(naive),
                NOTHING if naive is None else f"{ratio(naive / absorbed)}×",
            )
        )
    title = "MLA a token, all layers: absorbed, and with the latent expanded at each step"
    return Table(title, columns, tuple(rows))


def _milliseconds(seconds: float) -> str:
    return f"{1_000 * seconds:,.2f} ms"


def _comparison_table(measurement: Measurement) -> Table:
    first = measurement.decode[0]
    name = first.caches.spec.name
    columns = (
        Column("Model", "left"),
        Column("Bytes read"),
        Column("Time"),
        Column("Sequences", rank=1),
        Column("Tokens/s", rank=1),
        Column("Tokens/s, ratio", rank=1),
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
            row["name"],
            _against(row["bytes_ratio"]),
            _against(row["time_ratio"]),
            _or_nothing(row["same_memory_sequences"], "{:,}"),
            _or_nothing(row["same_memory_tokens_per_second"], "{:,.0f}"),
            _or_nothing(row["tokens_per_second_ratio"], "{:.2f}×"),
        )
        for row in comparison(measurement)
    ]
    title = f"A token against {name}'s; sequences and tokens/s in the same {gib(first.read_bytes)}"
    return Table(title, columns, (start, *rows))


def _against(less: float) -> str:
    return f"{ratio(less)}× less" if less >= 1 else f"{ratio(1 / less)}× more"


def _or_nothing(value: float | None, form: str) -> str:
    return NOTHING if value is None else form.format(value)
