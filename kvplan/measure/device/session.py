"""All that ``kvplan measure`` is asked for, one thing after the other on one device."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from time import perf_counter

from kvplan.errors import MeasurementError, RefusedError
from kvplan.measure.allocator import LARGE_SEGMENT, OWN_ROUNDING
from kvplan.measure.device.caches import (
    NothingFitsError,
    borrow_memory,
    empty,
    measure_caches,
    room_bytes,
)
from kvplan.measure.device.card import read_card
from kvplan.measure.device.ceilings import measure_ceilings
from kvplan.measure.device.decode import measure_decode
from kvplan.measure.device.device import Device, first_line, is_out_of_memory, open_device
from kvplan.measure.device.isolation import measure_decode_apart
from kvplan.measure.device.search import longest_context, most_sequences
from kvplan.measure.entry import card_memory
from kvplan.measure.layouts import CacheTensor, cache_footprint, cache_tensors, pool_limits
from kvplan.measure.question import (
    SEARCHABLE,
    CacheLayout,
    CacheQuestion,
    DecodeQuestion,
    Request,
)
from kvplan.measure.rates import DecodeMeasurement
from kvplan.measure.results import CacheMeasurement, Card, Maxima, Measurement
from kvplan.measure.shapes import attention_shapes, check_kernel
from kvplan.parallel import Layout, check_tensor_parallel
from kvplan.planner.drafter import drafter_weights
from kvplan.planner.solve import solve
from kvplan.question import Question
from kvplan.units import ceil_div
from kvplan.weights import StageLayers, weights_on_rank

OnStep = Callable[[str, float], None]
"""Hears what is being done, and what share of it all is behind it."""


@dataclass
class _Steps:
    """Says what is being done and how far that is."""

    on_step: OnStep
    total: int
    begun: int = 0

    def begin(self, step: str) -> None:
        """The next of the steps."""
        self.on_step(step, self.begun / self.total)
        self.begun += 1

    def within(self, detail: str) -> None:
        """A part of the step that is under way."""
        self.on_step(detail, (self.begun - 1) / self.total)


def measure(request: Request, on_step: OnStep = lambda *_: None) -> Measurement:
    """What the request asks for; ``on_step`` hears of each step before it begins.

    Raises UsageError, RefusedError and MeasurementError; gives all memory back in any case.
    """
    _check(request)
    device = open_device(request.device)
    try:
        return _measure(device, request, _Steps(on_step, request.steps))
    except RuntimeError as error:
        hint = "--max-bytes asks for less" if is_out_of_memory(error) else None
        raise MeasurementError(f"{request.device}: {first_line(error)}", hint) from None
    finally:
        with suppress(RuntimeError):  # the context is dead, and its memory with it
            device.release()
            if request.max_bytes is not None:
                device.bound(None)


def _check(request: Request) -> None:
    """What can be refused before anything is measured."""
    for question in request.questions:
        spec = question.spec
        check_tensor_parallel(spec, question.tensor_parallel)
        if request.decode:
            for shape in attention_shapes(question):
                check_kernel(request.kernel, shape)
        if request.reserve_weights and spec.weights_bytes is None:
            raise RefusedError(
                f"the weights of {spec.name} are not known", "leave --reserve-weights out"
            )


def _measure(device: Device, request: Request, steps: _Steps) -> Measurement:
    steps.begin("the card")
    card = read_card(device)
    gpu = card_memory(card) if card.capability else None
    asked = tuple(replace(question, gpu=gpu) for question in request.questions)
    request = replace(request, questions=asked)
    if request.max_bytes is not None:
        device.bound(request.max_bytes)
    started = perf_counter()
    measurement = _add_caches(device, request, Measurement(card), steps)
    measurement = replace(measurement, seconds=perf_counter() - started)
    if request.find_max:
        measurement = replace(measurement, maxima=_maxima(device, request, card, steps))
    if request.needs_ceilings:
        steps.begin("read and matmul ceilings")
        ceilings = measure_ceilings(device, room_bytes(device, request.max_bytes))
        measurement = replace(measurement, ceilings=ceilings)
    return _add_decode(device, request, measurement, steps) if request.decode else measurement


def _add_caches(
    device: Device, request: Request, measurement: Measurement, steps: _Steps
) -> Measurement:
    """The same with each model in each layout; what one does not have, or hold, is said."""
    caches: list[CacheMeasurement] = []
    refused: list[str] = []
    unfit: list[str] = []
    for question in request.questions:
        for layout in request.layouts:
            steps.begin(f"{question.spec.name}: {layout.value}")
            try:
                caches.append(measure_caches(device, question, layout, request.max_bytes))
            except RefusedError as error:
                if len(request.layouts) == 1:
                    raise
                refused.append(f"{error.message}: not measured")
            except NothingFitsError as error:
                unfit.append(f"{error.message}; {error.hint}")
    return replace(measurement, caches=tuple(caches), refused=tuple(refused), unfit=tuple(unfit))


def _maxima(device: Device, request: Request, card: Card, steps: _Steps) -> tuple[Maxima, ...]:
    maxima = []
    for question in request.questions:
        steps.begin(f"{question.spec.name}: longest context, most sequences")
        weights_bytes = _weights_bytes(device, question) if request.reserve_weights else 0
        asked = Maxima(question, _search_layout(request, question), weights_bytes)
        room = room_bytes(device, request.max_bytes)
        maxima.append(asked if weights_bytes >= room else _search(device, request, card, asked))
    return tuple(maxima)


def _search(device: Device, request: Request, card: Card, asked: Maxima) -> Maxima:
    """The limits beside the weights, which are allocated first."""
    question, layout, weights_bytes = asked.question, asked.layout, asked.weights_bytes
    with borrow_memory(device) as tensors:
        if weights_bytes:
            tensors.append(empty(device, CacheTensor((weights_bytes,))))
        bound = None if request.max_bytes is None else request.max_bytes - weights_bytes
        room = room_bytes(device, bound)
        context_tokens, sequences = pool_limits(question, layout, room) or _limits(
            card, question, room
        )
        return replace(
            asked,
            weights_fit=True,
            plan_context_tokens=context_tokens,
            plan_sequences=sequences,
            context=longest_context(device, question, layout, bound),
            sequences=most_sequences(device, question, layout, bound),
        )


def _search_layout(request: Request, question: CacheQuestion) -> CacheLayout:
    """The first layout asked for that can be searched and that the model has."""
    for layout in request.layouts:
        if layout in SEARCHABLE:
            with suppress(RefusedError):
                cache_tensors(question, layout)
                return layout
    return CacheLayout.ARITHMETIC


def _weights_bytes(device: Device, question: CacheQuestion) -> int:
    """Weights of one GPU, in whole segments so that caches share none with them."""
    spec = question.spec
    where = Layout(tensor=question.tensor_parallel)
    lines = weights_on_rank(spec, where, StageLayers(spec.total_layers))
    if question.drafter is not None:
        lines += drafter_weights(question.drafter, spec, where)
    segment = LARGE_SEGMENT if device.allocator.expandable else OWN_ROUNDING
    return ceil_div(sum(line.size_bytes for line in lines), segment) * segment


def _limits(card: Card, question: CacheQuestion, room: int) -> tuple[int | None, int | None]:
    """The planner's longest context and most sequences; weights are no longer its business."""
    spec = replace(question.spec, weights=())
    asked = Question(
        models=(spec,),
        gpu=card_memory(card),
        layout=Layout(tensor=question.tensor_parallel),
        context_tokens=question.context_tokens,
        sequences=question.sequences,
        kv_cache_dtype=question.kv_cache_dtype,
        draft=question.draft,
        **({} if question.beside is None else asdict(question.beside)),
        draft_model=question.drafter and replace(question.drafter, weights=()),
        draft_kv_cache_dtype=question.draft_kv_cache_dtype,
        overhead_bytes=card.total_bytes - room,
        kv_cache_memory_bytes=room,
    )
    plan = solve(spec, asked)
    return plan.max_context_tokens, plan.max_sequences


def _add_decode(
    device: Device, request: Request, measurement: Measurement, steps: _Steps
) -> Measurement:
    """The same with a decode step of each model, and of each but the first in the first's bytes.

    A model whose step fails takes nothing from the others.
    """
    decode: list[DecodeMeasurement] = []
    same_memory: list[DecodeMeasurement] = []
    failed: list[str] = []
    room = cache_footprint(request.questions[0]).total_bytes
    for question in request.questions:
        sequences = room // cache_footprint(question).bytes_per_sequence
        full = question.at_sequences(sequences) if sequences else None
        against = bool(decode) and decode[0].caches == request.questions[0]
        try:
            decode.append(_decode(device, request, question, steps))
            if against and full == question:
                same_memory.append(decode[-1])
            elif against and full is not None:
                same_memory.append(_decode(device, request, full, steps, "measured once"))
        except MeasurementError as error:
            hint = f"; {error.hint}" if error.hint else ""
            failed.append(f"{question.spec.name}: {error.message}{hint}")
    return replace(
        measurement, decode=tuple(decode), same_memory=tuple(same_memory), failed=tuple(failed)
    )


def _decode(
    device: Device,
    request: Request,
    question: CacheQuestion,
    steps: _Steps,
    no_naive: str | None = None,
) -> DecodeMeasurement:
    asked = DecodeQuestion(question, request.kernel, request.max_bytes, no_naive=no_naive)
    step = f"{question.spec.name}: a decode step"
    steps.begin(step)

    def on_trial(part: str) -> None:
        steps.within(f"{step}, {part}")

    if device.kind == "cpu":
        return measure_decode(device, asked, on_trial)
    return measure_decode_apart(request.device, asked, on_trial)
