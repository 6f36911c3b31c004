"""What torch's CUDA caching allocator takes from the device for a sequence of requests.

Source: c10/cuda/CUDACachingAllocator.cpp of torch 2.11 (round_size, get_allocation_size,
should_split, get_free_block, try_allocate_expandable_block), held against an H100. One stream, one
device, no other allocator option than ``expandable_segments``. Sizes are bytes throughout.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field

from kvplan.units import MIB, ceil_div

ROUNDING = 512  # every request is rounded up to this; no block is smaller
LARGEST_SMALL = MIB  # requests up to this share 2 MiB segments
SMALL_SEGMENT = 2 * MIB
LARGE_SEGMENT = 20 * MIB  # shared by requests up to 10 MiB; granule of expandable segments
SMALLEST_OWN = 10 * MIB  # requests from here on get a segment of their own
OWN_ROUNDING = 2 * MIB


class OutOfMemoryError(Exception):
    """The device has not so much left, and nothing cached could be given back."""


@dataclass(eq=False)
class Block:
    """A piece of a segment, free or in use; neighbours in the same segment are linked."""

    address: int
    size: int
    small: bool
    free: bool = False
    previous: Block | None = None
    following: Block | None = None

    def key(self) -> tuple[int, int]:
        """The order of best fit."""
        return (self.size, self.address)


def _segment_bytes(size: int, *, small: bool) -> int:
    """What is asked of the device for a request that no cached block serves."""
    if small:
        return SMALL_SEGMENT
    if size < SMALLEST_OWN:
        return LARGE_SEGMENT
    return ceil_div(size, OWN_ROUNDING) * OWN_ROUNDING


@dataclass
class Allocator:
    """The allocator's books: what is handed out and what was taken from the device for it.

    ``capacity_bytes`` is what the device gives at most; a request beyond it returns what is cached
    and, if that does not help, raises OutOfMemoryError.
    """

    expandable: bool = False
    capacity_bytes: int | None = None
    allocated_bytes: int = 0
    reserved_bytes: int = 0
    peak_reserved_bytes: int = 0
    _cached: dict[bool, list[Block]] = field(default_factory=lambda: {True: [], False: []})
    _tails: dict[bool, Block | None] = field(default_factory=lambda: {True: None, False: None})
    _next_address: int = 0

    def take(self, size_bytes: int) -> Block:
        """A block for a request of this size, as ``malloc`` finds it."""
        size = max(ROUNDING, ceil_div(size_bytes, ROUNDING) * ROUNDING)
        small = size <= LARGEST_SMALL
        block = self._best_fit(size, small=small)
        if block is None:
            more = self._extend if self.expandable else self._add_segment
            block = more(size, small=small)
        self._split(block, size)
        block.free = False
        self.allocated_bytes += block.size
        return block

    def give_back(self, block: Block) -> None:
        """The block is free again and merges with free neighbours; the device gets nothing."""
        self.allocated_bytes -= block.size
        block.free = True
        for other in (block.previous, block.following):
            if other is not None and other.free:
                self._drop(other)
                block = self._merge(block, other)
        self._keep(block)

    def _best_fit(self, size: int, *, small: bool) -> Block | None:
        cached = self._cached[small]
        index = bisect_left(cached, (size, -1), key=Block.key)
        if index == len(cached):
            return None
        if self.expandable and cached[index] is self._tails[small] and index + 1 < len(cached):
            index += 1  # the end of a segment can still grow and is kept for larger requests
        return cached.pop(index)

    def _add_segment(self, size: int, *, small: bool) -> Block:
        segment = _segment_bytes(size, small=small)
        self._reserve(segment)
        start = self._next_address
        self._next_address += segment
        return Block(start, segment, small)

    def _extend(self, size: int, *, small: bool) -> Block:
        """The end of the pool's one segment, with as many granules added as are missing."""
        granule = SMALL_SEGMENT if small else LARGE_SEGMENT
        tail = self._tails[small]
        start = tail if tail is not None and tail.free else None
        missing = size - (start.size if start else 0)
        mapped = ceil_div(missing, granule) * granule
        # Where a memory fraction is set, torch asks for room for a whole segment all the same.
        self._reserve(mapped, at_least=_segment_bytes(size, small=small))
        if start is not None:
            self._drop(start)
            start.size += mapped
            return start
        address = tail.address + tail.size if tail else (0 if small else 1 << 60)
        block = Block(address, mapped, small, previous=tail)
        if tail is not None:
            tail.following = block
        self._tails[small] = block
        return block

    def _reserve(self, size: int, at_least: int = 0) -> None:
        asked = max(size, at_least)
        if self.capacity_bytes is not None and self.reserved_bytes + asked > self.capacity_bytes:
            self._release_cached()
            if self.reserved_bytes + asked > self.capacity_bytes:
                raise OutOfMemoryError
        self.reserved_bytes += size
        self.peak_reserved_bytes = max(self.peak_reserved_bytes, self.reserved_bytes)

    def _release_cached(self) -> None:
        """Whole segments that are free go back to the device; expandable ones are not modelled."""
        if self.expandable:
            return
        for small in (True, False):
            blocks = self._cached[small]
            segments = [b for b in blocks if b.previous is None and b.following is None]
            self.reserved_bytes -= sum(segment.size for segment in segments)
            self._cached[small] = [block for block in blocks if block not in segments]

    def _split(self, block: Block, size: int) -> None:
        """The rest of a block that is larger than needed is cached, where it is worth it."""
        rest = block.size - size
        worth = rest >= ROUNDING if block.small or self.expandable else rest > LARGEST_SMALL
        if not worth:
            return
        remaining = Block(block.address + size, rest, block.small, True, block, block.following)
        if remaining.following is not None:
            remaining.following.previous = remaining
        if self._tails[block.small] is block:
            self._tails[block.small] = remaining
        block.size, block.following = size, remaining
        self._keep(remaining)

    def _merge(self, one: Block, other: Block) -> Block:
        first, second = sorted((one, other), key=lambda block: block.address)
        first.size += second.size
        first.following = second.following
        if first.following is not None:
            first.following.previous = first
        if self._tails[first.small] is second:
            self._tails[first.small] = first
        first.free = True
        return first

    def _keep(self, block: Block) -> None:
        block.free = True
        insort(self._cached[block.small], block, key=Block.key)

    def _drop(self, block: Block) -> None:
        cached = self._cached[block.small]
        cached.pop(bisect_left(cached, block.key(), key=Block.key))
