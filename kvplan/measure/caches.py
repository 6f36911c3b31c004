"""Real caches: allocated in a layout, every byte written and read back, counted, given back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import perf_counter

import torch

from kvplan.calc import Footprint, footprint
from kvplan.errors import MeasurementError
from kvplan.measure.allocator import OutOfMemoryError
from kvplan.measure.device import Device, is_out_of_memory, torch_dtype
from kvplan.measure.layouts import (
    GROWTH_TOKENS,
    PAGE_TOKENS,
    CacheTensor,
    cache_tensors,
    planned_bytes,
)
from kvplan.measure.names import CacheLayout
from kvplan.measure.prediction import Prediction, predicted, prompt
from kvplan.planning import NothingFitsError
from kvplan.spec import ModelSpec
from kvplan.units import MIB, gib, largest

_SCRATCH_BYTES = {"cuda": 4 * MIB, "cpu": 0}  # of the reductions that read a cache back
_ATTEMPTS = 3  # another process may take memory between the look and the allocation


@dataclass(frozen=True)
class CacheQuestion:
    """The caches of one GPU of ``tensor_parallel`` that are to be allocated."""

    spec: ModelSpec
    context_tokens: int
    sequences: int = 1
    kv_cache_dtype: str = "auto"
    tensor_parallel: int = 1
    page_tokens: int = PAGE_TOKENS
    draft: bool = False

    def footprint(self) -> Footprint:
        """What the calculator says of them."""
        return footprint(
            self.spec,
            self.context_tokens,
            self.sequences,
            self.kv_cache_dtype,
            self.tensor_parallel,
            draft=self.draft,
        )

    def tensors(self, layout: CacheLayout) -> tuple[CacheTensor, ...]:
        """The tensors of that footprint in this layout; a grown one ends a few tokens later."""
        grown = GROWTH_TOKENS if layout is CacheLayout.GROWN else 0
        cache = self.of(self.context_tokens + grown).footprint()
        return cache_tensors(cache, layout, self.page_tokens)

    def of(self, context_tokens: int) -> CacheQuestion:
        """The same caches for another context."""
        return replace(self, context_tokens=context_tokens)


@dataclass(frozen=True)
class CacheMeasurement:
    """One layout's caches on the device, in bytes and seconds; counters are changes.

    ``planned_bytes`` is the plan for ``question``'s context, which is shorter than
    ``asked_tokens`` where no more fits. ``peak_bytes`` is the most that torch took on the way. A
    counter is None where the device has none, ``predicted`` where the allocator's rules do not
    apply. ``left_bytes`` was still counted as allocated when all had been given back.
    """

    question: CacheQuestion
    layout: CacheLayout
    asked_tokens: int
    tensors: int
    planned_bytes: int
    tensor_bytes: int
    allocated_bytes: int | None
    reserved_bytes: int | None
    device_bytes: int | None
    peak_bytes: int | None
    predicted: Prediction | None
    intact: bool
    left_bytes: int
    allocate_seconds: float
    write_seconds: float
    read_seconds: float
    free_seconds: float

    @property
    def shortened(self) -> bool:
        """Whether the device holds no cache of the context that was asked for."""
        return self.question.context_tokens < self.asked_tokens

    @property
    def unpredicted(self) -> bool:
        """Whether the bytes are right and the counters show what nobody could predict."""
        sound = self.tensor_bytes == self.planned_bytes and self.intact and not self.left_bytes
        return sound and self.predicted is None and not self.proved

    @property
    def proved(self) -> bool:
        """Whether tensors hold the planned bytes and every counter shows what was predicted.

        Where nothing was predicted, the counters have to show the plan itself.
        """
        if self.tensor_bytes != self.planned_bytes or not self.intact or self.left_bytes:
            return False
        if self.allocated_bytes is None:
            return True
        planned = self.planned_bytes
        expected = self.predicted or Prediction(planned, planned, planned)
        counters = (self.allocated_bytes, self.reserved_bytes, self.device_bytes, self.peak_bytes)
        return counters == (
            expected.allocated_bytes,
            expected.reserved_bytes,
            expected.reserved_bytes,
            expected.peak_bytes,
        )


def measured_caches(
    device: Device, asked: CacheQuestion, layout: CacheLayout, max_bytes: int | None = None
) -> CacheMeasurement:
    """The caches on the device, of the context asked for or of the longest that fits.

    At most ``max_bytes`` are taken. Raises NothingFitsError where not even one token fits,
    MeasurementError where the device refuses what it showed as free.
    """
    for _ in range(_ATTEMPTS):
        device.release()
        room = room_bytes(device, max_bytes)
        question = fitting(device, asked, layout, room)
        try:
            return _measured(device, asked, question, layout, room)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
    raise MeasurementError(
        f"{asked.spec.name}: the device refuses memory that it shows as free",
        "another process takes it; --max-bytes asks for less",
    )


def room_bytes(device: Device, max_bytes: int | None) -> int:
    """What may be taken now."""
    usable = device.usable_bytes()
    return usable if max_bytes is None else min(usable, max_bytes)


def fitting(device: Device, asked: CacheQuestion, layout: CacheLayout, room: int) -> CacheQuestion:
    """The question, or the same for the longest context that so many bytes have room for."""

    def fits(context_tokens: int) -> bool:
        return _fits(device, asked.of(context_tokens), layout, room)

    if fits(asked.context_tokens):
        return asked
    longest = largest(fits, asked.context_tokens - 1)
    if not longest:
        raise NothingFitsError(
            f"{asked.spec.name}, {layout.value}: not even a context of one token fits in "
            f"{gib(room)}",
            "fewer --sequences, more -tp, a larger --max-bytes or a smaller --block-size",
        )
    return asked.of(longest)


def _fits(device: Device, question: CacheQuestion, layout: CacheLayout, room: int) -> bool:
    tensors = question.tensors(layout)
    if planned_bytes(tensors) > room:
        return False
    try:
        found = _prediction(device, tensors, layout, room)
    except OutOfMemoryError:
        return False
    if found is None:  # a cache that is copied as it grows is there twice
        return layout is not CacheLayout.GROWN or 2 * planned_bytes(tensors) <= room
    return found.reserved_bytes + _SCRATCH_BYTES[device.kind] <= room


def reserved_bytes(device: Device, question: CacheQuestion, layout: CacheLayout) -> int:
    """What these caches will take from the device: by the allocator's rules, or as planned."""
    tensors = question.tensors(layout)
    found = _prediction(device, tensors, layout, None)
    return found.peak_bytes if found else planned_bytes(tensors)


def _measured(
    device: Device, asked: CacheQuestion, question: CacheQuestion, layout: CacheLayout, room: int
) -> CacheMeasurement:
    described = question.tensors(layout)
    before = device.counters()
    with held(device) as tensors:
        allocating = timed(device, lambda: allocate(device, described, layout, tensors))
        writing = timed(device, lambda: write(tensors))
        after = device.counters()
        tensor_bytes = sum(tensor.untyped_storage().nbytes() for tensor in tensors)
        started = perf_counter()
        intact = all(holds(tensor, _value(index)) for index, tensor in enumerate(tensors))
        reading = perf_counter() - started
        started = perf_counter()
    freeing = perf_counter() - started
    return CacheMeasurement(
        question=question,
        layout=layout,
        asked_tokens=asked.context_tokens,
        tensors=len(described),
        planned_bytes=planned_bytes(described),
        tensor_bytes=tensor_bytes,
        allocated_bytes=_change(before.allocated_bytes, after.allocated_bytes),
        reserved_bytes=_change(before.reserved_bytes, after.reserved_bytes),
        device_bytes=_change(before.taken_bytes, after.taken_bytes),
        peak_bytes=_change(before.reserved_bytes, after.peak_bytes),
        predicted=_prediction(device, described, layout, room),
        intact=intact,
        left_bytes=_change(before.allocated_bytes, device.counters().allocated_bytes) or 0,
        allocate_seconds=allocating,
        write_seconds=writing,
        read_seconds=reading,
        free_seconds=freeing,
    )


def _prediction(
    device: Device, described: tuple[CacheTensor, ...], layout: CacheLayout, room: int | None
) -> Prediction | None:
    if not device.settings.predictable:
        return None
    expandable = device.settings.expandable
    return predicted(described, layout, expandable=expandable, capacity_bytes=room)


def _change(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before


@contextmanager
def held(device: Device) -> Iterator[list[torch.Tensor]]:
    """A list of tensors that is emptied, and its memory given back, whatever happens."""
    tensors: list[torch.Tensor] = []
    try:
        yield tensors
    finally:
        tensors.clear()
        device.release()


def timed(device: Device, action: Callable[[], object]) -> float:
    """Seconds until the device has done it."""
    device.synchronize()
    started = perf_counter()
    action()
    device.synchronize()
    return perf_counter() - started


def allocate(
    device: Device,
    described: tuple[CacheTensor, ...],
    layout: CacheLayout,
    tensors: list[torch.Tensor],
) -> None:
    """Put the tensors of this layout into the list, as they are allocated.

    Raises what torch raises where the memory is not there.
    """
    if layout is not CacheLayout.GROWN:
        for tensor in described:
            tensors.append(_empty(device, tensor))  # noqa: PERF401 - what is held has to be listed
        return
    for tensor in described:
        tensors.append(_empty(device, prompt(tensor)))  # noqa: PERF401
    for _ in range(GROWTH_TOKENS):
        for index, tensor in enumerate(described):
            if tensor.grows:
                new = _empty(device, tensor.of_tokens(1))
                tensors[index] = torch.cat([tensors[index], new], dim=2)
                del new


def _empty(device: Device, tensor: CacheTensor) -> torch.Tensor:
    dtype = torch_dtype(tensor.dtype)
    return torch.empty(tensor.shape, dtype=dtype, device=device.torch_device)


def write(tensors: list[torch.Tensor]) -> None:
    """Fill every byte of every tensor with a value of its own."""
    for index, tensor in enumerate(tensors):
        words = _words(tensor)
        words.fill_(_word(_value(index), words))


def holds(tensor: torch.Tensor, value: int) -> bool:
    """Whether every byte of the tensor is this value still."""
    words = _words(tensor)
    low, high = torch.aminmax(words)
    return int(low) == int(high) == _word(value, words)


def _value(index: int) -> int:
    return index % 127 + 1  # neighbours differ, and a word of it is not negative


def _words(tensor: torch.Tensor) -> torch.Tensor:
    """All bytes of the tensor, eight at a time where they divide."""
    octets = tensor.view(-1).view(torch.uint8)
    return octets.view(torch.int64) if octets.numel() % 8 == 0 else octets


def _word(value: int, words: torch.Tensor) -> int:
    return int.from_bytes(bytes([value]) * words.element_size())
