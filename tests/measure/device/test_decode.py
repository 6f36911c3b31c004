"""A step of attention over real caches on the CPU: right before it is timed."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import ModuleType

import pytest
from torch import Tensor

from kvplan.errors import MeasurementError
from kvplan.measure.device import decode
from kvplan.measure.device.decode import measure_decode
from kvplan.measure.device.device import CpuDevice, open_device
from kvplan.measure.kernels import attention
from kvplan.measure.kernels import kernels as library
from kvplan.measure.question import DecodeQuestion, Kernel
from kvplan.measure.rates import LayerTime
from tests.measure.samples import question

CPU = open_device("cpu")


def measure_layer(asked: DecodeQuestion) -> LayerTime:
    """The one kind of layer that these models have."""
    (layer,) = measure_decode(CPU, asked, lambda _: None).layers
    return layer


@pytest.mark.parametrize("sequences", [1, 3])
@pytest.mark.parametrize(
    ("model", "token", "kernels"),
    [
        ("llama3-70b", 327_680, ["sdpa", "torch"]),
        ("llama2-7b", 524_288, ["sdpa", "torch"]),
        ("deepseek-v2-lite", 31_104, ["torch"]),
        ("mistral-7b", 131_072, ["sdpa", "torch"]),
    ],
)
def test_a_step_on_the_cpu(model: str, token: int, kernels: list[str], sequences: int) -> None:
    trials: list[str] = []
    asked = DecodeQuestion(question(model, 40, sequences), Kernel.AUTO)
    step = measure_decode(CPU, asked, trials.append)
    assert step.read_bytes == sequences * 40 * token
    latent = model == "deepseek-v2-lite"
    assert trials == [*kernels, *(["MLA's naive form"] if latent else [])]
    (layer,) = step.layers
    assert [time.kernel.value for time in layer.times] == kernels
    for time in layer.times:
        assert time.reason is None
        assert time.error is not None
        assert 0 < time.error < 3e-3
        assert time.layer_seconds is not None
        assert time.layer_seconds >= layer.layer_seconds > 0
    assert (layer.latent is not None) == latent
    assert layer.latent is None or layer.latent.naive_seconds


def test_layers_that_do_not_fit_are_measured_in_part() -> None:
    asked = DecodeQuestion(question("llama3-70b", 64), Kernel.SDPA, max_bytes=64 * 4_096 + 5)
    assert measure_layer(asked).distinct_caches == 1
    with pytest.raises(MeasurementError, match="not even one layer's cache"):
        measure_layer(replace(asked, max_bytes=1_000))


def test_without_a_kernel_that_works_there_is_no_time() -> None:
    asked = DecodeQuestion(question("deepseek-v2-lite", 64), Kernel.FLASHMLA)
    with pytest.raises(
        MeasurementError, match="no kernel worked: flashmla: flash_mla is not installed"
    ):
        measure_layer(asked)


def test_a_kernel_that_is_wrong_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("flash_mla")
    module.get_mla_metadata = lambda *_: ("", "")  # type: ignore[attr-defined]
    module.flash_mla_with_kvcache = (  # type: ignore[attr-defined]
        lambda q, *_, **__: (q[..., :512], None)
    )
    monkeypatch.setattr(library, "find_spec", lambda _: module)
    monkeypatch.setitem(sys.modules, "flash_mla", module)
    monkeypatch.setattr(decode, "kernels", lambda *_: (Kernel.FLASHMLA, Kernel.TORCH))
    asked = DecodeQuestion(question("deepseek-v2-lite", 64), Kernel.AUTO)
    layer = measure_layer(asked)
    assert layer.best.kernel is Kernel.TORCH
    assert "wrong by" in (layer.times[0].reason or "")
    assert layer.times[0].layer_seconds is None


def test_a_dead_context_is_not_taken_for_a_kernel_that_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def illegal(*_: object) -> Tensor:
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nand advice")

    asked = DecodeQuestion(question("llama2-7b", 16), Kernel.AUTO)
    monkeypatch.setattr(attention, "fused_attention", illegal)
    layer = measure_layer(asked)
    assert layer.best.kernel is Kernel.TORCH
    assert layer.times[0].reason == (
        "RuntimeError: CUDA error: an illegal memory access was encountered"
    )

    monkeypatch.setattr(CpuDevice, "synchronize", illegal)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        measure_layer(asked)
