"""What follows from measured times: shares of the roof, a token, MLA's two forms."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kvplan.measure.question import Kernel
from kvplan.measure.rates import Ceilings, DecodeMeasurement, KernelTime, LatentTimes, LayerTime
from kvplan.measure.shapes import attention_shapes
from tests.measure.samples import question


def layer(model: str, latent: LatentTimes | None = None) -> LayerTime:
    """A layer over 64 tokens of two sequences whose step took a millisecond."""
    (shape,) = attention_shapes(question(model, 64, 2))
    best = KernelTime(Kernel.TORCH, 1e-3, 2e-3)
    return LayerTime(shape, 2, shape.layers, best, (best,), latent)


def test_the_roof_is_the_larger_of_two() -> None:
    ceilings = Ceilings(read_bytes_per_second=100.0, matmul_flops_per_second=1_000.0)
    assert ceilings.roof_seconds(100, 500) == 1.0
    assert ceilings.roof_seconds(100, 2_500) == 2.5


def test_a_layer_reads_and_computes_for_all_sequences() -> None:
    step = layer("deepseek-v3")
    assert step.read_bytes == 2 * 64 * 1_152
    assert step.flops == 2 * 2 * 128 * 64 * 1_088


def test_shares_of_the_roof() -> None:
    step = layer("deepseek-v3")
    slow_memory = Ceilings(2 * 64 * 1_152 * 1e3, 1e30)  # reads it all in that millisecond
    assert step.roof_share(slow_memory) == pytest.approx(1.0)
    assert step.bound_by(slow_memory) == "bytes"
    slow_products = Ceilings(1e30, 2 * 2 * 2 * 128 * 64 * 1_088 * 1e3)  # needs half of it
    assert step.roof_share(slow_products) == pytest.approx(0.5)
    assert step.bound_by(slow_products) == "FLOPs"


def test_a_token_passes_all_layers() -> None:
    decode = DecodeMeasurement(question("llama3-70b", 64, 2), (layer("llama3-70b"),))
    assert decode.token_seconds == pytest.approx(0.080)
    assert decode.tokens_per_second == pytest.approx(25.0)
    assert decode.read_bytes == 2 * 64 * 327_680
    assert decode.absorbed_token_seconds is None
    assert decode.naive_token_seconds is None


def test_the_two_forms_of_mla() -> None:
    times = layer("deepseek-v3", LatentTimes(0.5e-3, 20e-3))
    decode = DecodeMeasurement(question("deepseek-v3", 64, 2), (times,))
    assert decode.token_seconds == pytest.approx(61e-3)
    assert decode.absorbed_token_seconds == pytest.approx(61 * 1.5e-3)
    assert decode.naive_token_seconds == pytest.approx(61 * 20e-3)
    unknown = replace(times, latent=LatentTimes(0.5e-3, None, "out of memory"))
    assert replace(decode, layers=(unknown,)).naive_token_seconds is None
