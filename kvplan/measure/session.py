"""All that ``kvplan measure`` is asked for, one thing after the other on one device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter

import torch

from kvplan.errors import MeasurementError, RefusedError, UsageError
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
from kvplan.measure.isolation import decode_apart
from kvplan.measure.names import Kernel, Layout
from kvplan.measure.search import Limit, longest_context, most_sequences
from kvplan.measure.shapes import attention_shapes
from kvplan.parallel import Layout as Parallel
from kvplan.planning import check_layout
from kvplan.units import MIB, ceil_div
from kvplan.weights import weights_on_rank

Tell = Callable[[str, float], None]
"""Hears what is being done, and what share of the whole is behind it."""


@dataclass(frozen=True)
class Request:
    """What is to be measured. The questions differ in their models alone."""

    device: str
    questions: tuple[CacheQuestion, ...]
    layouts: tuple[Layout, ...] = (Layout.ARITHMETIC,)
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
        ceilings = int(self.decode or self.ceilings)
        return 1 + models * (len(self.layouts) + self.find_max) + ceilings + decode


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
    """

    question: CacheQuestion
    layout: Layout
    weights_bytes: int
    weights_fit: bool
    context: Limit | None
    sequences: Limit | None


@dataclass(frozen=True)
class Measurement:
    """Everything that was measured. ``refused`` says what was not, and why."""

    card: Card
    caches: tuple[CacheMeasurement, ...] = ()
    limits: tuple[Limits, ...] = ()
    ceilings: Ceilings | None = None
    decode: tuple[DecodeMeasurement, ...] = ()
    same_memory: tuple[DecodeMeasurement, ...] = ()
    """Each further model with as many sequences as the first one's caches have room for."""
    refused: tuple[str, ...] = ()
    seconds: float = 0.0
    """Of the caches' check alone: beyond loading torch and making a context."""


def measure(request: Request, tell: Tell = lambda *_: None) -> Measurement:
    """What the request asks for; ``tell`` hears of each step before it begins.

    Raises UsageError, RefusedError and MeasurementError; gives all memory back in any case.
    """
    if request.find_max and set(request.layouts) == {Layout.GROWN}:
        raise UsageError(
            "--find-max needs a layout that is allocated at once", "--layout arithmetic"
        )
    for question in request.questions:
        check_layout(question.spec, Parallel(tensor=question.tensor_parallel))
        if request.decode:
            attention_shapes(question)
    device = opened(request.device)
    try:
        return _measured(device, request, _Steps(tell, request.steps))
    except RuntimeError as error:
        hint = "--max-bytes asks for less" if is_out_of_memory(error) else None
        raise MeasurementError(f"{request.device}: {first_line(error)}", hint) from None
    finally:
        _release(device)


def _release(device: Device) -> None:
    try:
        device.release()
    except RuntimeError:  # the context is dead, and its memory with it
        return


def _measured(device: Device, request: Request, steps: _Steps) -> Measurement:
    steps.begin("the card")
    card = read_card(device)
    if request.max_bytes is not None:
        device.bound(request.max_bytes)
    started = perf_counter()
    caches, refused = _caches(device, request, steps)
    seconds = perf_counter() - started
    limits = _limits(device, request, steps) if request.find_max else ()
    ceilings = None
    if request.decode or request.ceilings:
        steps.begin("read and matmul ceilings")
        ceilings = measured_ceilings(device)
    found = Measurement(card, caches, limits, ceilings, refused=refused, seconds=seconds)
    if not request.decode:
        return found
    decode = tuple(_decode(device, request, question, steps) for question in request.questions)
    return replace(found, decode=decode, same_memory=_same_memory(device, request, decode, steps))


def _caches(
    device: Device, request: Request, steps: _Steps
) -> tuple[tuple[CacheMeasurement, ...], tuple[str, ...]]:
    """Each model in each layout; a layout that one model does not have is passed over and told."""
    measured, refused = [], []
    for question in request.questions:
        for layout in request.layouts:
            steps.begin(f"{question.spec.name}: {layout.value}")
            try:
                measured.append(measured_caches(device, question, layout, request.max_bytes))
            except RefusedError as error:
                if len(request.layouts) == 1:
                    raise
                refused.append(f"{error.message}: not measured")
    return tuple(measured), tuple(refused)


def _limits(device: Device, request: Request, steps: _Steps) -> tuple[Limits, ...]:
    layout = next(layout for layout in request.layouts if layout is not Layout.GROWN)
    found = []
    for question in request.questions:
        steps.begin(f"{question.spec.name}: longest context, most sequences")
        weights = _weights_bytes(device, question) if request.reserve_weights else 0
        if weights >= room_bytes(device, request.max_bytes):
            found.append(Limits(question, layout, weights, False, None, None))
            continue
        with held(device) as tensors:
            if weights:
                tensors.append(torch.empty(weights, dtype=torch.uint8, device=device.torch_device))
            bound = None if request.max_bytes is None else request.max_bytes - weights
            context = longest_context(device, question, layout, bound)
            sequences = most_sequences(device, question, layout, bound)
        found.append(Limits(question, layout, weights, True, context, sequences))
    return tuple(found)


def _weights_bytes(device: Device, question: CacheQuestion) -> int:
    """Weights of one GPU, in whole segments so that caches share none with them."""
    spec = question.spec
    if spec.weights_bytes is None:
        raise RefusedError(
            f"the weights of {spec.name} are not known", "leave --reserve-weights out"
        )
    where = Parallel(tensor=question.tensor_parallel)
    lines = weights_on_rank(spec, where, spec.total_layers)
    segment = (20 if device.settings.expandable else 2) * MIB
    return ceil_div(sum(line.size_bytes for line in lines), segment) * segment


def _decode(
    device: Device,
    request: Request,
    question: CacheQuestion,
    steps: _Steps,
    *,
    naive: bool = True,
) -> DecodeMeasurement:
    asked = DecodeQuestion(question, request.kernel, request.max_bytes, naive=naive)

    steps.begin(f"{question.spec.name}: a decode step")

    def tell(part: str) -> None:
        steps.within(f"{question.spec.name}: a decode step, {part}")

    if device.kind == "cpu":
        return measured_decode(device, asked, tell)
    return decode_apart(request.device, asked, tell)


def _same_memory(
    device: Device, request: Request, decode: tuple[DecodeMeasurement, ...], steps: _Steps
) -> tuple[DecodeMeasurement, ...]:
    """The first model's cache bytes, filled with sequences of each other model."""
    first = request.questions[0].footprint().total_bytes
    found = []
    for question, measured in zip(request.questions[1:], decode[1:], strict=True):
        sequences = first // question.footprint().bytes_per_sequence
        if sequences == question.sequences:
            found.append(measured)
        elif sequences:
            filled = replace(question, sequences=sequences)
            found.append(_decode(device, request, filled, steps, naive=False))
    return tuple(found)
