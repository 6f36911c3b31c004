"""A step that is measured in a process of its own, which may die."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kvplan.errors import MeasurementError
from kvplan.measure.device import isolation
from kvplan.measure.device.decode import NAIVE, OnTrial, measure_decode
from kvplan.measure.device.device import open_device
from kvplan.measure.device.isolation import measure_decode_apart
from kvplan.measure.question import DecodeQuestion, Kernel
from kvplan.measure.rates import DecodeMeasurement
from tests.measure.samples import question

CPU = open_device("cpu")


def test_a_child_process_measures_the_same() -> None:
    trials: list[str] = []
    asked = DecodeQuestion(question("llama2-7b", 32), Kernel.AUTO)
    step = measure_decode_apart("cpu", asked, trials.append)
    assert step.read_bytes == 32 * 524_288
    assert trials == ["sdpa", "torch"]
    with pytest.raises(MeasurementError, match="flash_mla is not installed"):
        measure_decode_apart(
            "cpu", DecodeQuestion(question("deepseek-v2-lite", 64), Kernel.FLASHMLA), print
        )


def test_a_kernel_that_kills_its_process_kills_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "flash_mla.py").write_text("import os\nos._exit(9)\n")
    monkeypatch.syspath_prepend(tmp_path)
    asked = DecodeQuestion(question("deepseek-v2-lite", 64), Kernel.FLASHMLA)
    with pytest.raises(MeasurementError, match="the measuring process died: exit code 9"):
        measure_decode_apart("cpu", asked, lambda _: None)


def test_a_death_in_the_naive_form_costs_only_that(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = DecodeQuestion(question("deepseek-v2-lite", 32), Kernel.AUTO)
    real = isolation.attempt
    reasons: list[str | None] = []

    def die_at_first(
        device: str, trial: DecodeQuestion, on_trial: OnTrial
    ) -> tuple[DecodeMeasurement | str, str]:
        reasons.append(trial.no_naive)
        return real(device, trial, on_trial) if trial.no_naive else ("exit code -6", NAIVE)

    monkeypatch.setattr(isolation, "attempt", die_at_first)
    (layer,) = measure_decode_apart("cpu", asked, lambda _: None).layers
    assert reasons == [None, "took its process with it: exit code -6"]
    assert layer.best.kernel is Kernel.TORCH
    assert layer.latent
    assert layer.latent.naive_seconds is None
    assert layer.latent.naive_reason == reasons[1]


def test_after_a_death_the_other_kernels_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = DecodeQuestion(question("llama2-7b", 16), Kernel.AUTO)
    survivor = measure_decode(CPU, replace(asked, skip=(Kernel.SDPA,)), lambda _: None)
    skips: list[tuple[Kernel, ...]] = []

    def die_at_first(
        _device: str, trial: DecodeQuestion, _on_trial: object
    ) -> tuple[DecodeMeasurement | str, str]:
        skips.append(trial.skip)
        return ("exit code -11", "sdpa") if not trial.skip else (survivor, "torch")

    monkeypatch.setattr(isolation, "attempt", die_at_first)
    (layer,) = measure_decode_apart("cpu", asked, lambda _: None).layers
    assert skips == [(), (Kernel.SDPA,)]
    assert layer.best.kernel is Kernel.TORCH
    assert layer.times[-1].reason == "took its process with it: exit code -11"
