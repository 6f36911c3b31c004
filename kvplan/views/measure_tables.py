"""The tables of ``kvplan measure``, and what is compared in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kvplan.answers.words import NOTHING, plural
from kvplan.measure.caches import CacheMeasurement, CacheQuestion
from kvplan.measure.card import Card
from kvplan.measure.ceilings import Ceilings
from kvplan.measure.decode import DecodeMeasurement
from kvplan.measure.layouts import GROWTH_TOKENS
from kvplan.measure.names import CacheLayout
from kvplan.measure.session import Limits, Measurement
from kvplan.report import Column, Table
from kvplan.units import gib, ratio

_GIGA, _TERA = 10**9, 10**12


def comparison(found: Measurement) -> Iterator[dict[str, Any]]:
    """Every further model against the first: bytes, time, and what the same memory brings."""
    for measured in found.decode[1:]:
        first = found.decode[0]
        spec = measured.caches.spec
        full = next((each for each in found.same_memory if each.caches.spec == spec), None)
        yield {
            "name": spec.name,
            "against": first.caches.spec.name,
            "bytes_ratio": first.read_bytes / measured.read_bytes,
            "time_ratio": first.token_seconds / measured.token_seconds,
            "same_memory_bytes": first.read_bytes,
            "same_memory_sequences": full and full.caches.sequences,
            "same_memory_tokens_per_second": full and full.tokens_per_second,
            "tokens_per_second_ratio": full and full.tokens_per_second / first.tokens_per_second,
            "basis": "measured",
        }


def card_table(found: Measurement) -> Table:
    """What the device has, and how long the check of the caches took."""
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


def caches_table(found: Measurement) -> Table:
    """Each cache with its counters, less the planned bytes, as far as the device counts."""
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
    grown = f"+{GROWTH_TOKENS}" if each.layout is CacheLayout.GROWN else ""
    return f"{each.question.context_tokens:,}{grown}"


def _difference(size: int | None, planned: int) -> str:
    return NOTHING if size is None else f"{size - planned:+,}"


def _verdict(each: CacheMeasurement) -> str:
    if each.proved:
        right = "bytes right" if each.allocated_bytes is None else "proved"
        return "shortened" if each.shortened else right
    return "not predicted" if each.unpredicted else "NOT PROVED"


def limits_table(limits: tuple[Limits, ...]) -> Table:
    """What was found by allocating, beside what was said of it beforehand."""
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


def decode_tables(found: Measurement) -> list[Table]:
    """A step of each model; MLA's two forms; the models side by side."""
    tables = [_attention_table((*found.decode, *filled(found)), found.ceilings)]
    if any(each.absorbed_token_seconds for each in found.decode):
        tables.append(_latent_table(found))
    if found.same_memory:
        tables.append(_comparison_table(found))
    return tables


def filled(found: Measurement) -> list[DecodeMeasurement]:
    """Steps that were measured for the comparison alone."""
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
        for each in comparison(found)
    ]
    title = f"A token against {name}'s; sequences and tokens/s in the same {gib(first.read_bytes)}"
    return Table(title, columns, (start, *rows))


def _against(less: float) -> str:
    return f"{ratio(less)}× less" if less >= 1 else f"{ratio(1 / less)}× more"


def _or_nothing(value: float | None, form: str) -> str:
    return NOTHING if value is None else form.format(value)
