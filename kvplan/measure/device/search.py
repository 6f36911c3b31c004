"""The longest context, and the most sequences, that a device really holds: by allocating."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kvplan.measure.device.caches import allocate, borrow_memory, peak_bytes, room_bytes
from kvplan.measure.device.device import Device, is_out_of_memory
from kvplan.measure.layouts import (
    CacheTensor,
    cache_footprint,
    cache_tensors,
    planned_bytes,
)
from kvplan.measure.question import CacheLayout, CacheQuestion
from kvplan.measure.results import Maximum
from kvplan.units import MIB, largest

MOST_ALLOCATIONS = 12
_FIRST_STEP_BYTES = 2 * MIB
_ENDLESS = 1 << 60

Scale = Callable[[int], CacheQuestion]
"""The caches asked for, in a size: so many tokens, or so many sequences."""


def longest_context(
    device: Device, asked: CacheQuestion, layout: CacheLayout, max_bytes: int | None = None
) -> Maximum | None:
    """The longest context for the sequences asked for; None where memory does not bound it."""
    return _maximum(device, asked.at_context, layout, max_bytes)


def most_sequences(
    device: Device, asked: CacheQuestion, layout: CacheLayout, max_bytes: int | None = None
) -> Maximum | None:
    """The most sequences of the context asked for; None where they keep nothing."""
    return _maximum(device, asked.at_sequences, layout, max_bytes)


def _maximum(
    device: Device, scale: Scale, layout: CacheLayout, max_bytes: int | None
) -> Maximum | None:
    room = room_bytes(device, max_bytes)
    too_many = _too_many(scale, room)
    if too_many is None:
        return None
    bounded = device.kind == "cpu" or room == max_bytes
    probe = _Probe(device, scale, layout, room if bounded else None)

    def within(bound_bytes: int) -> int:
        return largest(lambda number: probe.needs(number) <= bound_bytes, too_many)

    by_rules = within(room)
    low, high = _bracket(probe, by_rules, within)
    return Maximum(
        value=low,
        refused=high,
        by_rules=by_rules,
        allocations=probe.allocations,
        planned_bytes=planned_bytes(probe.tensors(low)) if low else 0,
        left_bytes=probe.left_bytes,
    )


def _too_many(scale: Scale, room: int) -> int | None:
    """A number whose planned bytes alone are more than there is; None where none is."""
    number = 1
    while cache_footprint(scale(number)).total_bytes <= room:
        number *= 2
        if number > _ENDLESS:
            return None
    return number


@dataclass
class _Probe:
    """Tries numbers on the device; beyond ``bound_bytes`` it asks nothing of it."""

    device: Device
    scale: Scale
    layout: CacheLayout
    bound_bytes: int | None
    allocations: int = 0
    left_bytes: int = 0

    def tensors(self, number: int) -> tuple[CacheTensor, ...]:
        """The tensors of so many."""
        return cache_tensors(self.scale(number), self.layout)

    def needs(self, number: int) -> int:
        """What so many will take, by the allocator's rules."""
        return peak_bytes(self.device, self.scale(number), self.layout)

    def holds(self, number: int) -> bool:
        """Whether the device has it: allocated for real, and given back."""
        left = None if self.bound_bytes is None else self.bound_bytes - self.needs(number)
        if left is not None and left < 0:
            return False
        self.allocations += 1
        try:
            with borrow_memory(self.device) as tensors:
                allocate(self.device, self.tensors(number), self.layout, tensors)
                self.left_bytes = self.device.free_bytes() if left is None else left
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                return False
            raise
        return True


def _bracket(probe: _Probe, guess: int, within: Callable[[int], int]) -> tuple[int, int | None]:
    """The largest number that was held and the smallest that was refused, close together."""
    low, high, step = 0, None, _FIRST_STEP_BYTES
    number = guess or 1
    while high != low + 1 and probe.allocations < MOST_ALLOCATIONS:
        if probe.holds(number):
            low = number
            step_up = within(probe.needs(low) + step) if number != guess else low + 1
            number = max(low + 1, step_up)
        else:
            high = number
            number = max(1, min(high - 1, within(probe.needs(high) - step)))
        if low and high is not None:
            middle = within((probe.needs(low) + probe.needs(high)) // 2)
            number = min(high - 1, max(low + 1, middle))
        step *= 2
    return low, high
