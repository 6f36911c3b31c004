"""Caches allocated, written, read and given back, on the CPU and on a card without memory."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from kvplan.errors import MeasurementError
from kvplan.measure.device import caches
from kvplan.measure.device.caches import NothingFitsError, borrow_memory, measure_caches
from kvplan.measure.device.device import open_device
from kvplan.measure.question import CacheLayout
from tests.measure.device.fake_card import fake_card
from tests.measure.samples import GIB, MIB, question

CPU = open_device("cpu")


@pytest.mark.parametrize(
    ("layout", "tokens"),
    [
        (CacheLayout.ARITHMETIC, 100),
        (CacheLayout.VLLM, 112),
        (CacheLayout.WHOLE, 100),
        (CacheLayout.SEQUENCES, 100),
        (CacheLayout.GROWN, 108),
    ],
)
@pytest.mark.parametrize(
    ("model", "token", "fixed"),
    [
        ("llama3-70b", 327_680, 0),
        ("deepseek-v3", 70_272, 0),
        ("gemma3-27b", 62 * 2 * 16 * 128 * 2, 0),  # shorter than its windows
        # 61 windows; of every four tokens one in 30 layers, with an index key; states
        ("deepseek-v4-pro", 61 * 584 + 30 * (584 + 132) / 4, 16_252_928 + 1_966_080 + 491_520),
    ],
)
def test_caches_on_the_cpu(
    model: str, token: float, fixed: int, layout: CacheLayout, tokens: int
) -> None:
    if layout is CacheLayout.VLLM and model in ("deepseek-v4-pro", "gemma3-27b"):
        return
    cache = measure_caches(CPU, question(model, 100, 2), layout)
    assert cache.planned_bytes == cache.tensor_bytes == 2 * (tokens * token + fixed)
    assert cache.intact
    assert cache.is_proved
    assert not cache.is_short
    assert cache.allocated_bytes is None
    assert cache.prediction is None


@pytest.mark.parametrize(
    ("dtype", "row"), [("fp8", 128), ("q4_0", 72), ("nvfp4", 72), ("fp32", 512)]
)
def test_packed_caches_hold_what_their_format_says(dtype: str, row: int) -> None:
    asked = question("llama3-70b", 50, kv_cache_dtype=dtype)
    cache = measure_caches(CPU, asked, CacheLayout.ARITHMETIC)
    assert cache.tensor_bytes == 50 * 80 * 2 * 8 * row


def test_as_far_as_it_goes() -> None:
    asked = question("llama3-70b", 1_000)
    cache = measure_caches(CPU, asked, CacheLayout.ARITHMETIC, 100 * MIB)
    assert cache.is_short
    assert cache.question.context_tokens == 320  # 100 MiB at 327,680 B a token
    assert cache.asked_tokens == 1_000
    with pytest.raises(NothingFitsError, match="not even a context of one token"):
        measure_caches(CPU, asked, CacheLayout.ARITHMETIC, 1_000)


def test_what_was_overwritten_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def only_the_first(tensors: list[torch.Tensor]) -> None:
        for index, tensor in enumerate(tensors):
            tensor.fill_(0)
            if index == 0:
                tensor.view(torch.uint8).fill_(1)

    assert measure_caches(CPU, question("llama2-7b"), CacheLayout.ARITHMETIC).intact
    monkeypatch.setattr(caches, "write", only_the_first)
    cache = measure_caches(CPU, question("llama2-7b"), CacheLayout.ARITHMETIC)
    assert not cache.intact
    assert not cache.is_proved


@pytest.mark.parametrize("error", [RuntimeError("it broke"), KeyboardInterrupt()])
def test_memory_goes_back_after_an_error(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    allocated: list[weakref.ref[torch.Tensor]] = []
    real = torch.empty

    def empty(*shape: object, **options: object) -> torch.Tensor:
        if len(allocated) == 5:
            raise error
        tensor = real(*shape, **options)  # type: ignore[call-overload]
        allocated.append(weakref.ref(tensor))
        return tensor  # type: ignore[no-any-return]

    monkeypatch.setattr(torch, "empty", empty)
    with pytest.raises(type(error)):
        measure_caches(CPU, question("llama2-7b"), CacheLayout.ARITHMETIC)
    gc.collect()
    assert len(allocated) == 5
    assert all(tensor() is None for tensor in allocated)


def test_borrowed_tensors_are_dropped() -> None:
    with borrow_memory(CPU) as tensors:
        tensors.append(torch.empty(10))
        reference = weakref.ref(tensors[0])
    assert reference() is None


def test_a_device_that_refuses_what_it_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    card = fake_card(monkeypatch, 60 * GIB, hidden=30 * GIB)
    with pytest.raises(MeasurementError, match="refuses memory that it shows as free"):
        measure_caches(card, question("llama3-70b", 131_072), CacheLayout.ARITHMETIC)  # type: ignore[arg-type]
