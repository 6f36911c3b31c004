"""What torch's allocator takes of the device, request by request."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvplan.measure.allocator import Allocator, Block, OutOfMemoryError
from tests.measure.samples import KIB, MIB


def books_of(sizes: list[int], *, expandable: bool = False) -> Allocator:
    books = Allocator(expandable)
    for size in sizes:
        books.take(size)
    return books


@pytest.mark.parametrize(
    ("sizes", "allocated", "reserved"),
    [
        ([1], 512, 2 * MIB),  # requests are rounded up to 512 B and share 2 MiB segments
        ([513] * 3, 3 * 1024, 2 * MIB),
        ([MIB] * 3, 3 * MIB, 4 * MIB),
        # 25% more: 19 in a 20 MiB segment, the last of which has what is left of it
        ([MIB + 1] * 64, 3 * 20 * MIB + 7 * (MIB + 512), 80 * MIB),
        ([2 * MIB + 1] * 64, 128 * MIB + 64 * 512, 160 * MIB),  # 25% more: 9 in a segment
        ([7 * MIB] * 64, 448 * MIB, 640 * MIB),  # 43% more: 2 in a segment
        ([10 * MIB], 10 * MIB, 10 * MIB),
        ([10 * MIB + 1], 10 * MIB + 512, 12 * MIB),
        ([11 * MIB], 12 * MIB, 12 * MIB),  # a rest of 1 MiB is not split off, and counts
        ([144 * MIB + 1], 144 * MIB + 512, 146 * MIB),
    ],
)
def test_segments(sizes: list[int], allocated: int, reserved: int) -> None:
    books = books_of(sizes)
    assert (books.allocated_bytes, books.reserved_bytes) == (allocated, reserved)


def test_expandable_segments_grow_by_granules() -> None:
    assert books_of([7 * MIB] * 64, expandable=True).reserved_bytes == 460 * MIB
    assert books_of([KIB] * 3000, expandable=True).reserved_bytes == 4 * MIB
    mixed = books_of([KIB, 30 * MIB], expandable=True)
    assert mixed.reserved_bytes == 2 * MIB + 40 * MIB


def test_a_full_device_gives_back_what_is_cached() -> None:
    books = Allocator(capacity_bytes=100 * MIB)
    first = books.take(60 * MIB)
    books.give_back(first)
    books.take(70 * MIB)  # the cached 60 MiB have to go first
    assert books.reserved_bytes == 70 * MIB
    assert books.peak_reserved_bytes == 70 * MIB
    with pytest.raises(OutOfMemoryError):
        books.take(31 * MIB)


def test_expandable_segments_ask_for_a_whole_segment() -> None:
    # alloc_block compares total + alloc_size with what the memory fraction allows
    books = Allocator(expandable=True, capacity_bytes=100 * MIB)
    books.take(50 * MIB)  # 60 MiB are mapped, 10 of them free
    books.take(30 * MIB)  # 20 more are mapped, but 30 had to be allowed
    assert books.reserved_bytes == 80 * MIB
    with pytest.raises(OutOfMemoryError):
        books.take(22 * MIB)


def test_the_best_fit_is_taken_and_what_is_left_is_used() -> None:
    books = Allocator()
    blocks = [books.take(size * MIB) for size in (40, 20, 30)]
    for block in blocks:
        books.give_back(block)
    assert books.take(18 * MIB).size == 18 * MIB  # of the 20, which is split
    assert books.take(25 * MIB).size == 25 * MIB  # of the 30
    assert books.take(5 * MIB).size == 5 * MIB  # of what the 30 left
    assert books.reserved_bytes == 90 * MIB


@given(
    st.booleans(),
    st.lists(st.tuples(st.integers(1, 30 * MIB), st.booleans()), min_size=1, max_size=60),
)
def test_books_stay_in_order(expandable: bool, requests: list[tuple[int, bool]]) -> None:
    books = Allocator(expandable)
    in_use: list[tuple[int, Block]] = []
    for size, keep in requests:
        block = books.take(size)
        assert block.size >= size
        in_use.append((size, block))
        if not keep:
            books.give_back(in_use.pop(len(in_use) // 2)[1])
        spans = sorted((block.address, block.address + block.size) for _, block in in_use)
        assert all(end <= start for (_, end), (start, _) in pairwise(spans))
        assert books.allocated_bytes == sum(block.size for _, block in in_use)
        assert books.reserved_bytes >= books.allocated_bytes
        assert books.peak_reserved_bytes >= books.reserved_bytes
    before = books.reserved_bytes
    for _, block in in_use:
        books.give_back(block)
    assert books.allocated_bytes == 0
    if not expandable and in_use:
        largest_size = max(size for size, _ in in_use)
        books.take(largest_size)  # what was cached serves it: nothing of it is lost
        assert books.reserved_bytes == before
