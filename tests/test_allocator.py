"""What torch's allocator takes: figures read off an H100 (torch 2.11), and what has to hold."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvplan
from kvplan.measure.allocator import Allocator, Block, OutOfMemoryError
from kvplan.measure.caches import CacheQuestion
from kvplan.measure.layouts import planned_bytes
from kvplan.measure.names import CacheLayout
from kvplan.measure.prediction import predicted
from kvplan.units import largest

KIB, MIB, GIB = 2**10, 2**20, 2**30


def taken(sizes: list[int], *, expandable: bool = False) -> Allocator:
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
    books = taken(sizes)
    assert (books.allocated_bytes, books.reserved_bytes) == (allocated, reserved)


def test_expandable_segments_grow_by_granules() -> None:
    assert taken([7 * MIB] * 64, expandable=True).reserved_bytes == 460 * MIB
    assert taken([KIB] * 3000, expandable=True).reserved_bytes == 4 * MIB
    mixed = taken([KIB, 30 * MIB], expandable=True)
    assert mixed.reserved_bytes == 2 * MIB + 40 * MIB


# Over the planned bytes, as an H100 80GB HBM3 counted them on 2026-11-22: torch 2.11.0+cu130,
# driver 580.159.04, kvplan measure --ctx 100001 (16 sequences of 4,097 for the last two).
ON_THE_CARD = [
    ("llama3-70b", 100_001, 1, CacheLayout.ARITHMETIC, 115_015_680, 115_015_680),
    ("llama3-70b", 100_001, 1, CacheLayout.VLLM, 0, 110_100_480),
    ("llama3-70b", 100_001, 1, CacheLayout.WHOLE, 0, 1_769_472),
    ("deepseek-v3", 100_001, 1, CacheLayout.ARITHMETIC, 21_948_288, 136_600_960),
    ("deepseek-v3", 100_001, 1, CacheLayout.VLLM, 7_620_608, 7_620_608),
    ("deepseek-v3", 100_001, 1, CacheLayout.WHOLE, 286_080, 286_080),
    ("llama2-7b", 100_001, 1, CacheLayout.ARITHMETIC, 49_807_360, 49_807_360),
    ("llama2-7b", 100_001, 1, CacheLayout.VLLM, 0, 41_943_040),
    ("deepseek-v2", 100_001, 1, CacheLayout.ARITHMETIC, 21_588_480, 134_361_600),
    ("deepseek-v2", 100_001, 1, CacheLayout.WHOLE, 143_872, 143_872),
    ("llama3-70b", 4_097, 16, CacheLayout.SEQUENCES, 0, 5_363_466_240),
    ("deepseek-v3", 4_097, 16, CacheLayout.SEQUENCES, 374_784, 1_194_252_288),
]


@pytest.mark.parametrize(
    ("model", "tokens", "sequences", "layout", "allocated", "device"), ON_THE_CARD
)
def test_what_an_h100_counted(
    model: str, tokens: int, sequences: int, layout: CacheLayout, allocated: int, device: int
) -> None:
    tensors = CacheQuestion(kvplan.load(model), tokens, sequences).tensors(layout)
    found, planned = predicted(tensors, layout), planned_bytes(tensors)
    assert found.allocated_bytes - planned == allocated
    assert found.reserved_bytes - planned == device


@pytest.mark.parametrize("layout", [CacheLayout.ARITHMETIC, CacheLayout.VLLM, CacheLayout.WHOLE])
@pytest.mark.parametrize(
    ("model", "planned"),
    [
        ("llama3-70b", 40 * GIB),
        ("llama2-7b", 64 * GIB),
        ("deepseek-v3", 9_210_691_584),
        ("deepseek-v2", 9_059_696_640),
    ],
)
def test_nothing_is_lost_at_128k(model: str, planned: int, layout: CacheLayout) -> None:
    found = predicted(CacheQuestion(kvplan.load(model), 131_072).tensors(layout), layout)
    assert (found.allocated_bytes, found.reserved_bytes) == (planned, planned)


@pytest.mark.parametrize(
    ("expandable", "reserved_mib"),
    # h100.md, section 2: 20.377 and 10.137 GiB for 10.0024 GiB of cache. Our growth allocates
    # the new token as well, in a 2 MiB segment of its own.
    [(False, 20_866 + 2), (True, 10_380 + 2)],
)
def test_growth_by_concatenation_takes_twice_the_plan(expandable: bool, reserved_mib: int) -> None:
    tensors = CacheQuestion(kvplan.load("llama3-70b"), 32_768).tensors(CacheLayout.GROWN)
    assert planned_bytes(tensors) == 327_680 * 32_776
    found = predicted(tensors, CacheLayout.GROWN, expandable=expandable)
    assert found.peak_bytes == found.reserved_bytes == reserved_mib * MIB


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
    held: list[tuple[int, Block]] = []
    for size, keep in requests:
        block = books.take(size)
        assert block.size >= size
        held.append((size, block))
        if not keep:
            books.give_back(held.pop(len(held) // 2)[1])
        spans = sorted((block.address, block.address + block.size) for _, block in held)
        assert all(end <= start for (_, end), (start, _) in pairwise(spans))
        assert books.allocated_bytes == sum(block.size for _, block in held)
        assert books.reserved_bytes >= books.allocated_bytes
        assert books.peak_reserved_bytes >= books.reserved_bytes
    before = books.reserved_bytes
    for _, block in held:
        books.give_back(block)
    assert books.allocated_bytes == 0
    if not expandable and held:
        largest_size = max(size for size, _ in held)
        books.take(largest_size)  # what was cached serves it: nothing of it is lost
        assert books.reserved_bytes == before


def test_the_largest_that_holds() -> None:
    assert largest(lambda number: number * number <= 50, 100) == 7
    assert largest(lambda _: True, 9) == 9
    assert largest(lambda _: False, 9) == 0
