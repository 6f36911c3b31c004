"""The longest context, and the most sequences, that a device really holds: found by allocating."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from kvplan.measure.caches import CacheQuestion, allocate, held, reserved_bytes, room_bytes
from kvplan.measure.device import Device, is_out_of_memory
from kvplan.measure.layouts import planned_bytes
from kvplan.measure.names import CacheLayout
from kvplan.units import MIB, largest

MOST_ALLOCATIONS = 12
_FIRST_STEP_BYTES = 2 * MIB
_ENDLESS = 1 << 60


@dataclass(frozen=True)
class Limit:
    """The most that was held, and what was said of it beforehand.

    ``found`` was allocated, ``refused`` was tried and not had. ``allocator`` is what the
    allocator's rules say of what was free. Beside the cache that was found, which holds
    ``planned_bytes``, ``left_bytes`` were left of what may be taken, or showed as free.
    """

    found: int
    refused: int | None
    allocator: int
    allocations: int
    planned_bytes: int
    left_bytes: int

    @property
    def exact(self) -> bool:
        """Whether one more was tried and refused."""
        return self.refused == self.found + 1


def longest_context(
    device: Device, asked: CacheQuestion, layout: CacheLayout, max_bytes: int | None = None
) -> Limit | None:
    """The longest context for the sequences asked for; None where memory does not bound it."""
    return _limit(device, asked.of, layout, max_bytes)


def most_sequences(
    device: Device, asked: CacheQuestion, layout: CacheLayout, max_bytes: int | None = None
) -> Limit | None:
    """The most sequences of the context asked for; None where they keep nothing."""
    return _limit(device, lambda count: replace(asked, sequences=count), layout, max_bytes)


def _limit(
    device: Device, of: Callable[[int], CacheQuestion], layout: CacheLayout, max_bytes: int | None
) -> Limit | None:
    room = room_bytes(device, max_bytes)
    too_many = _too_many(of, room)
    if too_many is None:
        return None
    bounded = device.kind == "cpu" or room == max_bytes
    probe = _Probe(device, of, layout, room if bounded else None)

    def within(bound_bytes: int) -> int:
        return largest(lambda number: probe.needs(number) <= bound_bytes, too_many)

    guess = within(room)
    low, high = _bracket(probe, guess, within)
    return Limit(
        found=low,
        refused=high,
        allocator=guess,
        allocations=probe.allocations,
        planned_bytes=planned_bytes(of(low).tensors(layout)) if low else 0,
        left_bytes=probe.left_bytes,
    )


def _too_many(of: Callable[[int], CacheQuestion], room: int) -> int | None:
    """A number whose planned bytes alone are more than there is; None where none is."""
    number = 1
    while of(number).footprint().total_bytes <= room:
        number *= 2
        if number > _ENDLESS:
            return None
    return number


@dataclass
class _Probe:
    """Tries numbers on the device; beyond ``bound_bytes`` it asks nothing of it."""

    device: Device
    of: Callable[[int], CacheQuestion]
    layout: CacheLayout
    bound_bytes: int | None
    allocations: int = 0
    left_bytes: int = 0

    def needs(self, number: int) -> int:
        """What so many will take, by the allocator's rules."""
        return reserved_bytes(self.device, self.of(number), self.layout)

    def holds(self, number: int) -> bool:
        """Whether the device has it: allocated for real, and given back."""
        left = None if self.bound_bytes is None else self.bound_bytes - self.needs(number)
        if left is not None and left < 0:
            return False
        self.allocations += 1
        try:
            with held(self.device) as tensors:
                described = self.of(number).tensors(self.layout)
                allocate(self.device, described, self.layout, tensors)
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
