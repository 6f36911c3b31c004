"""Devices by name, the allocator's options, and where torch itself is missing."""

from __future__ import annotations

import sys

import pytest
import torch

from kvplan.errors import MeasurementError, UsageError
from kvplan.measure.device import require_torch
from kvplan.measure.device.device import (
    CpuDevice,
    allocator_options,
    available_bytes,
    first_line,
    is_out_of_memory,
    open_device,
)


def test_devices_by_name() -> None:
    assert isinstance(open_device("cpu"), CpuDevice)
    for name in ("gpu", "cuda:x", "cpu:1", "", "cuda:1234", "cuda:01", "cuda:１"):
        with pytest.raises(UsageError, match="is not known"):
            open_device(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_no_cuda_device() -> None:
    with pytest.raises(MeasurementError, match="no CUDA device: torch") as refusal:
        open_device("cuda")
    assert refusal.value.exit_code == 4


def test_a_cuda_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(MeasurementError, match="cuda:2 does not exist: torch sees 2 CUDA devices"):
        open_device("cuda:2")


def test_a_torch_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MeasurementError, match="kvplan measure needs torch") as refusal:
        require_torch()
    assert refusal.value.hint == "pip install 'kvplan[measure]'"


@pytest.mark.parametrize(
    ("text", "expandable", "unknown"),
    [
        ("", False, ()),
        ("expandable_segments:True", True, ()),
        ("max_split_size_mb:512, expandable_segments:True", True, ("max_split_size_mb:512",)),
        ("backend:native,expandable_segments:False", False, ()),
        ("expandable_segments: True", True, ()),
        ("expandable_segments:True,expandable_segments:False", False, ()),
        ("garbage", False, ("garbage:",)),
    ],
)
def test_allocator_options(
    text: str, expandable: bool, unknown: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", text)
    monkeypatch.delenv("PYTORCH_ALLOC_CONF", raising=False)
    options = allocator_options("native")
    assert (options.expandable, options.unknown) == (expandable, unknown)
    assert options.predictable == (not unknown)
    assert not allocator_options("cudaMallocAsync").predictable


def test_the_host_has_memory_and_no_counters() -> None:
    host = open_device("cpu")
    assert 0 < host.usable_bytes() < available_bytes() + 1
    assert host.counters().allocated_bytes is None


def test_what_torch_says_of_its_errors() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("[enforce fail] can't allocate memory: 10 bytes"))
    assert not is_out_of_memory(RuntimeError("an illegal memory access"))
    assert first_line(RuntimeError("\nit broke\nand advice")) == "it broke"
    assert first_line(KeyboardInterrupt()) == "KeyboardInterrupt"
