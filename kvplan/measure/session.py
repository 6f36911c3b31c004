"""All that ``kvplan measure`` is asked for, one thing after the other on one device."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from time import perf_counter

import torch

from kvplan.errors import MeasurementError, RefusedError, UsageError
from kvplan.fit import Workload
from kvplan.measure.allocator import LARGE_SEGMENT, OWN_ROUNDING
from kvplan.measure.caches import (
    CacheMeasurement,
    CacheQuestion,
    held,
    measured_caches,
    room_bytes,
)
from kvplan.measure.card import Card, read_card
from kvplan.measure.ceilings import Ceilings, measured_ceilings
from kvplan.measure.decode import DecodeMeasurement, DecodeQuestion, measured_decode
from kvplan.measure.device import (
    Device,
    first_line,
    is_out_of_memory,
    opened,
)
from kvplan.measure.entry import as_gpu
from kvplan.measure.isolation import decode_apart
from kvplan.measure.kernels import check_kernel
from kvplan.measure.names import CacheLayout, Kernel
from kvplan.measure.search import Limit, longest_context, most_sequences
from kvplan.measure.shapes import attention_shapes
from kvplan.parallel import Layout
from kvplan.planning import NothingFitsError, Plan, Settings, check_layout, plan
from kvplan.units import ceil_div
from kvplan.weights import weights_on_rank

Tell = Callable[[str, float], None]
"""Hears what is being done, and what share of the whole is behind it."""

_SEARCHED = (CacheLayout.ARITHMETIC, CacheLayout.VLLM, CacheLayout.WHOLE)


@dataclass(frozen=True)
class Request:
    """What is to be measured. The questions differ in their models alone."""

    device: str
    questions: tuple[CacheQuestion, ...]
    layouts: tuple[CacheLayout, ...] = (CacheLayout.ARITHMETIC,)
    max_bytes: int | None = None
    find_max: bool = False
    reserve_weights: bool = False
    decode: bool = False
    kernel: Kernel = Kernel.AUTO
    ceilings: bool = False

    @property
    def steps(self) -> int:
        """Things that are measured one after the other."""
        models = len(self.questions)
        decode = 2 * models - 1 if self.decode else 0  # all but the first once more
        return 1 + models * (len(self.layouts) + self.find_max) + self.needs_ceilings + decode

    @property
    def needs_ceilings(self) -> bool:
        """Whether anything is to be held against what the device can do; a CPU is no roof."""
        return self.device != "cpu" and (self.decode or self.ceilings)


@dataclass
class _Steps:
    """Says what is being done and how far that is."""

    tell: Tell
    total: int
    begun: int = 0

    def begin(self, step: str) -> None:
        """The next of the steps."""
        self.tell(step, self.begun / self.total)
        self.begun += 1

    def within(self, detail: str) -> None:
        """A part of the step that is under way."""
        self.tell(detail, (self.begun - 1) / self.total)


@dataclass(frozen=True)
class Limits:
    """What the device holds of one model's caches, in one layout.

    ``weights_bytes`` lay on the device first; where they did not fit, nothing was searched.
    ``plan`` is what ``kvplan plan`` says of a GPU with the room that was there. A limit is None
    where memory sets none.
    """

    question: CacheQuestion
    layout: CacheLayout
    weights_bytes: int
    plan: Plan | None = None
    context: Limit | None = None
    sequences: Limit | None = None

    @property
    def weights_fit(self) -> bool:
        """Whether there was room for anything beside the weights."""
        return self.plan is not None


@dataclass(frozen=True)
class Measurement:
    """Everything that was measured.

    ``refused`` says what was passed over, ``unfit`` of what not one token fits, ``failed`` what
    went wrong, each with the reason.
    """

    card: Card
    caches: tuple[CacheMeasurement, ...] = ()
    limits: tuple[Limits, ...] = ()
    ceilings: Ceilings | None = None
    decode: tuple[DecodeMeasurement, ...] = ()
    same_memory: tuple[DecodeMeasurement, ...] = ()
    """Each further model with as many sequences as the first one's caches have room for."""
    refused: tuple[str, ...] = ()
    unfit: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    seconds: float = 0.0
    """Of the caches' check alone: beyond loading torch and making a context."""


def measure(request: Request, tell: Tell = lambda *_: None) -> Measurement:
    """What the request asks for; ``tell`` hears of each step before it begins.

    Raises UsageError, RefusedError and MeasurementError; gives all memory back in any case.
    """
    _check(request)
    device = opened(request.device)
    try:
        return _measured(device, request, _Steps(tell, request.steps))
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
    if request.find_max and not set(request.layouts) & set(_SEARCHED):
        names = ", ".join(layout.value for layout in _SEARCHED)
        raise UsageError("--find-max needs a layout that is allocated at once", f"one of: {names}")
    for question in request.questions:
        spec = question.spec
        check_layout(spec, Layout(tensor=question.tensor_parallel))
        if request.decode:
            for shape in attention_shapes(question):
                check_kernel(request.kernel, shape)
        if request.reserve_weights and spec.weights_bytes is None:
            raise RefusedError(
                f"the weights of {spec.name} are not known", "leave --reserve-weights out"
            )


def _measured(device: Device, request: Request, steps: _Steps) -> Measurement:
    steps.begin("the card")
    card = read_card(device)
    if request.max_bytes is not None:
        device.bound(request.max_bytes)
    started = perf_counter()
    caches, refused, unfit = _caches(device, request, steps)
    seconds = perf_counter() - started
    limits = _limits(device, request, card, steps) if request.find_max else ()
    ceilings = None
    if request.needs_ceilings:
        steps.begin("read and matmul ceilings")
        ceilings = measured_ceilings(device, room_bytes(device, request.max_bytes))
    found = Measurement(
        card, caches, limits, ceilings, refused=refused, unfit=unfit, seconds=seconds
    )
    return _with_decode(device, request, found, steps) if request.decode else found


def _caches(
    device: Device, request: Request, steps: _Steps
) -> tuple[tuple[CacheMeasurement, ...], tuple[str, ...], tuple[str, ...]]:
    """Each model in each layout; what one does not have, and what does not fit, is told."""
    measured, refused, unfit = [], [], []
    for question in request.questions:
        for layout in request.layouts:
            steps.begin(f"{question.spec.name}: {layout.value}")
            try:
                measured.append(measured_caches(device, question, layout, request.max_bytes))
            except RefusedError as error:
                if len(request.layouts) == 1:
                    raise
                refused.append(f"{error.message}: not measured")
            except NothingFitsError as error:
                unfit.append(f"{error.message}; {error.hint}")
    return tuple(measured), tuple(refused), tuple(unfit)


def _limits(device: Device, request: Request, card: Card, steps: _Steps) -> tuple[Limits, ...]:
    found = []
    for question in request.questions:
        steps.begin(f"{question.spec.name}: longest context, most sequences")
        weights = _weights_bytes(device, question) if request.reserve_weights else 0
        asked = Limits(question, _searched_layout(request, question), weights)
        if weights >= room_bytes(device, request.max_bytes):
            found.append(asked)
            continue
        with held(device) as tensors:
            if weights:
                tensors.append(torch.empty(weights, dtype=torch.uint8, device=device.torch_device))
            bound = None if request.max_bytes is None else request.max_bytes - weights
            plan = _plan(card, question, room_bytes(device, bound))
            context = longest_context(device, question, asked.layout, bound)
            sequences = most_sequences(device, question, asked.layout, bound)
        found.append(replace(asked, plan=plan, context=context, sequences=sequences))
    return tuple(found)


def _searched_layout(request: Request, question: CacheQuestion) -> CacheLayout:
    """The first layout asked for that is allocated at once and that the model has."""
    asked = [layout for layout in request.layouts if layout in _SEARCHED]
    for layout in asked:
        try:
            question.tensors(layout)
        except RefusedError:
            continue
        return layout
    return CacheLayout.ARITHMETIC


def _weights_bytes(device: Device, question: CacheQuestion) -> int:
    """Weights of one GPU, in whole segments so that caches share none with them."""
    spec = question.spec
    where = Layout(tensor=question.tensor_parallel)
    lines = weights_on_rank(spec, where, spec.total_layers)
    segment = LARGE_SEGMENT if device.settings.expandable else OWN_ROUNDING
    return ceil_div(sum(line.size_bytes for line in lines), segment) * segment


def _plan(card: Card, question: CacheQuestion, room: int) -> Plan:
    """The planner's answer for this card and room; weights are no longer its business."""
    work = Workload(
        question.context_tokens, question.sequences, question.kv_cache_dtype, question.draft
    )
    settings = Settings(overhead_bytes=card.total_bytes - room, kv_cache_memory_bytes=room)
    where = Layout(tensor=question.tensor_parallel)
    return plan(replace(question.spec, weights=()), work, as_gpu(card), where, settings)


def _with_decode(
    device: Device, request: Request, found: Measurement, steps: _Steps
) -> Measurement:
    """The same with a decode step of each model, and of each but the first in the first's bytes.

    A model whose step fails takes nothing from the others.
    """
    decode: list[DecodeMeasurement] = []
    same_memory: list[DecodeMeasurement] = []
    failed: list[str] = []
    room = request.questions[0].footprint().total_bytes
    for question in request.questions:
        filled = replace(question, sequences=room // question.footprint().bytes_per_sequence)
        against = bool(decode) and decode[0].caches == request.questions[0]
        try:
            decode.append(_decode(device, request, question, steps))
            if against and filled == question:
                same_memory.append(decode[-1])
            elif against and filled.sequences:
                same_memory.append(_decode(device, request, filled, steps, "measured once"))
        except MeasurementError as error:
            hint = f"; {error.hint}" if error.hint else ""
            failed.append(f"{question.spec.name}: {error.message}{hint}")
    return replace(
        found, decode=tuple(decode), same_memory=tuple(same_memory), failed=tuple(failed)
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

    def tell(part: str) -> None:
        steps.within(f"{step}, {part}")

    if device.kind == "cpu":
        return measured_decode(device, asked, tell)
    return decode_apart(request.device, asked, tell)
