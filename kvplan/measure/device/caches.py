"""Real caches: allocated in a layout, every byte written and read back, counted, given back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import torch

from kvplan.errors import DOES_NOT_FIT, KvplanError, MeasurementError
from kvplan.measure.allocator import OutOfMemoryError
from kvplan.measure.device.device import Device, is_out_of_memory
from kvplan.measure.device.timing import duration
from kvplan.measure.layouts import GROWTH_TOKENS, CacheTensor, cache_tensors, planned_bytes
from kvplan.measure.prediction import Prediction, prediction
from kvplan.measure.question import CacheLayout, CacheQuestion
from kvplan.measure.results import CacheMeasurement
from kvplan.units import MIB, gib, largest

_SCRATCH_BYTES = {"cuda": 4 * MIB, "cpu": 0}  # of the reductions that read a cache back
_ATTEMPTS = 3  # another process may take memory between the look and the allocation


class NothingFitsError(KvplanError):
    """Not one token of a cache fits on the device."""

    exit_code = DOES_NOT_FIT


def measure_caches(
    device: Device, asked: CacheQuestion, layout: CacheLayout, max_bytes: int | None = None
) -> CacheMeasurement:
    """The caches on the device, of the context asked for or of the longest that fits.

    At most ``max_bytes`` are taken. Raises NothingFitsError where not even one token fits,
    MeasurementError where the device refuses what it showed as free.
    """
    for _ in range(_ATTEMPTS):
        device.release()
        room = room_bytes(device, max_bytes)
        question = longest_fit(device, asked, layout, room)
        try:
            return _measure(device, asked, question, layout, room)
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


def longest_fit(
    device: Device, asked: CacheQuestion, layout: CacheLayout, room: int
) -> CacheQuestion:
    """The question, or the same for the longest context that so many bytes have room for."""

    def fits(context_tokens: int) -> bool:
        return _fits(device, asked.at_context(context_tokens), layout, room)

    if fits(asked.context_tokens):
        return asked
    longest = largest(fits, asked.context_tokens - 1)
    if not longest:
        raise NothingFitsError(
            f"{asked.spec.name}, {layout.value}: not even a context of one token fits in "
            f"{gib(room)}",
            "fewer --sequences, more -tp, a larger --max-bytes or a smaller --block-size",
        )
    return asked.at_context(longest)


def _fits(device: Device, question: CacheQuestion, layout: CacheLayout, room: int) -> bool:
    tensors = cache_tensors(question, layout)
    if planned_bytes(tensors) > room:
        return False
    try:
        expected = _prediction(device, tensors, layout, room)
    except OutOfMemoryError:
        return False
    if expected is None:  # a cache that is copied as it grows is there twice
        return layout is not CacheLayout.GROWN or 2 * planned_bytes(tensors) <= room
    return expected.reserved_bytes + _SCRATCH_BYTES[device.kind] <= room


def peak_bytes(device: Device, question: CacheQuestion, layout: CacheLayout) -> int:
    """The most these caches will take of the device: by the allocator's rules, or as planned."""
    tensors = cache_tensors(question, layout)
    expected = _prediction(device, tensors, layout, None)
    return expected.peak_bytes if expected else planned_bytes(tensors)


def _prediction(
    device: Device, tensors: tuple[CacheTensor, ...], layout: CacheLayout, room: int | None
) -> Prediction | None:
    if not device.allocator.predictable:
        return None
    expandable = device.allocator.expandable
    return prediction(tensors, layout, expandable=expandable, capacity_bytes=room)


def _measure(
    device: Device, asked: CacheQuestion, question: CacheQuestion, layout: CacheLayout, room: int
) -> CacheMeasurement:
    planned = cache_tensors(question, layout)
    before = device.counters()
    with borrow_memory(device) as tensors:
        allocate_seconds = duration(device, lambda: allocate(device, planned, layout, tensors))
        write_seconds = duration(device, lambda: write(tensors))
        after = device.counters()
        tensor_bytes = sum(tensor.untyped_storage().nbytes() for tensor in tensors)
        started = perf_counter()
        intact = all(holds(tensor, _value(index)) for index, tensor in enumerate(tensors))
        read = perf_counter()
    freed = perf_counter()
    return CacheMeasurement(
        question=question,
        layout=layout,
        asked_tokens=asked.context_tokens,
        tensors=len(planned),
        planned_bytes=planned_bytes(planned),
        tensor_bytes=tensor_bytes,
        allocated_bytes=_change(before.allocated_bytes, after.allocated_bytes),
        reserved_bytes=_change(before.reserved_bytes, after.reserved_bytes),
        device_bytes=_change(before.taken_bytes, after.taken_bytes),
        peak_bytes=_change(before.reserved_bytes, after.peak_bytes),
        prediction=_prediction(device, planned, layout, room),
        intact=intact,
        left_bytes=_change(before.allocated_bytes, device.counters().allocated_bytes) or 0,
        allocate_seconds=allocate_seconds,
        write_seconds=write_seconds,
        read_seconds=read - started,
        free_seconds=freed - read,
    )


def _change(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before


@contextmanager
def borrow_memory(device: Device) -> Iterator[list[torch.Tensor]]:
    """A list of tensors that is emptied, and its memory given back, whatever happens."""
    tensors: list[torch.Tensor] = []
    try:
        yield tensors
    finally:
        tensors.clear()
        device.release()


def allocate(
    device: Device,
    planned: tuple[CacheTensor, ...],
    layout: CacheLayout,
    tensors: list[torch.Tensor],
) -> None:
    """Put the tensors of this layout into the list, as they are allocated.

    Raises what torch raises where the memory is not there.
    """
    grown = layout is CacheLayout.GROWN
    for tensor in planned:
        tensors.append(  # noqa: PERF401 - what is allocated has to be in the list at once
            empty(device, tensor.prompt() if grown else tensor)
        )
    for _ in range(GROWTH_TOKENS if grown else 0):
        for index, tensor in enumerate(planned):
            if tensor.grows:
                new = empty(device, tensor.of_tokens(1))
                tensors[index] = torch.cat([tensors[index], new], dim=2)
                del new


def empty(device: Device, tensor: CacheTensor) -> torch.Tensor:
    """The tensor on the device, with whatever bytes lie there."""
    dtype = getattr(torch, tensor.dtype)
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
