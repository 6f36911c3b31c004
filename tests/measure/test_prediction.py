"""What torch will count for a layout: figures read off an H100 (torch 2.11)."""

from __future__ import annotations

import pytest

from kvplan.measure.allocator import OutOfMemoryError
from kvplan.measure.layouts import cache_tensors, planned_bytes
from kvplan.measure.prediction import prediction
from kvplan.measure.question import CacheLayout
from tests.measure.samples import GIB, MIB, question

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
    tensors = cache_tensors(question(model, tokens, sequences), layout)
    expected, planned = prediction(tensors, layout), planned_bytes(tensors)
    assert expected.allocated_bytes - planned == allocated
    assert expected.reserved_bytes - planned == device


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
    expected = prediction(cache_tensors(question(model, 131_072), layout), layout)
    assert (expected.allocated_bytes, expected.reserved_bytes) == (planned, planned)


@pytest.mark.parametrize(
    ("expandable", "reserved_mib"),
    # h100.md, section 2: 20.377 and 10.137 GiB for 10.0024 GiB of cache. Our growth allocates
    # the new token as well, in a 2 MiB segment of its own.
    [(False, 20_866 + 2), (True, 10_380 + 2)],
)
def test_growth_by_concatenation_takes_twice_the_plan(expandable: bool, reserved_mib: int) -> None:
    tensors = cache_tensors(question("llama3-70b", 32_768), CacheLayout.GROWN)
    assert planned_bytes(tensors) == 327_680 * 32_776
    expected = prediction(tensors, CacheLayout.GROWN, expandable=expandable)
    assert expected.peak_bytes == expected.reserved_bytes == reserved_mib * MIB


def test_what_is_too_large_for_the_device_is_not_predicted() -> None:
    tensors = cache_tensors(question("llama2-7b", 4_096), CacheLayout.WHOLE)  # 2 GiB
    fitting = prediction(tensors, CacheLayout.WHOLE, capacity_bytes=2 * GIB)
    assert fitting.reserved_bytes == 2 * GIB
    with pytest.raises(OutOfMemoryError):
        prediction(tensors, CacheLayout.WHOLE, capacity_bytes=2 * GIB - 1)
