"""The same on a real card: counters to the byte, limits by allocation, kernels against float64."""

from __future__ import annotations

import pytest
import torch

from kvplan.measure.device.caches import measure_caches
from kvplan.measure.device.card import read_card
from kvplan.measure.device.ceilings import measure_ceilings
from kvplan.measure.device.device import CudaDevice, open_device
from kvplan.measure.device.isolation import measure_decode_apart
from kvplan.measure.device.search import MOST_ALLOCATIONS, longest_context
from kvplan.measure.device.session import measure
from kvplan.measure.kernels import attention
from kvplan.measure.kernels.kernels import Problem, UnavailableError, prepare
from kvplan.measure.question import CacheLayout, DecodeQuestion, Kernel, Request
from kvplan.measure.shapes import AttentionShape, kernels
from tests.measure.samples import GIB, MIB, question

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture(scope="module")
def card() -> CudaDevice:
    device = open_device("cuda")
    assert isinstance(device, CudaDevice)
    read_card(device)
    return device


@pytest.mark.parametrize("layout", list(CacheLayout))
@pytest.mark.parametrize(
    ("model", "tokens", "sequences"),
    [("llama3-70b", 5_001, 1), ("deepseek-v3", 4_097, 5), ("deepseek-v4-pro", 3_000, 2)],
)
def test_every_counter_shows_what_was_predicted(
    card: CudaDevice, model: str, tokens: int, sequences: int, layout: CacheLayout
) -> None:
    if layout is CacheLayout.VLLM and model == "deepseek-v4-pro":
        return
    asked = question(model, tokens, sequences)
    assert measure_caches(card, asked, layout).is_proved
    assert torch.cuda.memory_allocated() == torch.cuda.memory_reserved() == 0


def test_growth_is_predicted_when_it_fills_the_card(card: CudaDevice) -> None:
    room = card.usable_bytes()
    layers_bytes = 80 * 2 * 8 * 128 * 2
    tokens = room * 3 // 5 // layers_bytes // 1_024 * 1_024
    asked = question("llama3-70b", tokens)
    cache = measure_caches(card, asked, CacheLayout.GROWN)
    assert cache.is_proved
    assert cache.prediction
    assert cache.prediction.peak_bytes > 0.99 * room


@pytest.mark.parametrize("bound", [None, 3 * GIB])
def test_limits(card: CudaDevice, bound: int | None) -> None:
    asked = question("llama3-70b", 1_024)
    longest = longest_context(card, asked, CacheLayout.WHOLE, bound)
    assert longest
    assert longest.exact
    assert longest.allocations <= MOST_ALLOCATIONS
    assert longest.left_bytes < 32 * MIB


def test_a_session_gives_everything_back(card: CudaDevice) -> None:
    before = card.usable_bytes()
    asked = question("llama2-7b", 4_096)
    measurement = measure(Request("cuda", (asked,), find_max=True, max_bytes=4 * GIB))
    assert measurement.caches[0].is_proved
    facts = measurement.card
    assert facts.total_bytes > facts.free_bytes > facts.usable_bytes > 0
    assert card.usable_bytes() == before


def test_ceilings_are_measured(card: CudaDevice) -> None:
    ceilings = measure_ceilings(card, 8 * GIB)
    assert ceilings.read_bytes_per_second > 0
    assert ceilings.matmul_flops_per_second > 0


@pytest.mark.parametrize("kernel", [Kernel.SDPA, Kernel.TRITON, Kernel.TORCH])
@pytest.mark.parametrize("tokens", [1, 1_000, 4_096])
@pytest.mark.parametrize("heads", [(64, 8, 128, 128), (32, 32, 128, 128), (12, 4, 80, 64)])
def test_kernels_for_keys_and_values(
    card: CudaDevice, kernel: Kernel, tokens: int, heads: tuple[int, int, int, int]
) -> None:
    query_heads, kv_heads, key_width, value_width = heads
    shape = AttentionShape(
        "GQA", 1, query_heads, kv_heads, key_width, value_width, tokens, key_width**-0.5, "bf16"
    )
    attend = prepare(kernel, Problem(shape, 3, card.torch_device))
    torch.manual_seed(5)
    where = {"dtype": torch.bfloat16, "device": card.torch_device}
    query = torch.randn(3, query_heads, key_width, **where)  # type: ignore[call-overload]
    key = torch.randn(3, kv_heads, tokens, key_width, **where)  # type: ignore[call-overload]
    value = torch.randn(3, kv_heads, tokens, value_width, **where)  # type: ignore[call-overload]
    exact = attention.reference(query, key, value, shape.scale)
    assert attention.relative_error(attend(query, (key, value)), exact) < 3e-3


@pytest.mark.parametrize("kernel", [Kernel.GLUON, Kernel.TRITON, Kernel.TORCH])
@pytest.mark.parametrize("tokens", [1, 65, 8_192])
@pytest.mark.parametrize("heads", [128, 16, 20])
@pytest.mark.parametrize("widths", [(512, 64), (256, 32)])
def test_kernels_for_latents(
    card: CudaDevice, kernel: Kernel, tokens: int, heads: int, widths: tuple[int, int]
) -> None:
    latent, rope = widths
    shape = AttentionShape(
        "MLA", 1, heads, 1, latent + rope, latent, tokens, 192**-0.5, "bf16", (128, rope, 128)
    )
    try:
        attend = prepare(kernel, Problem(shape, 2, card.torch_device))
    except UnavailableError as reason:
        assert kernel is Kernel.GLUON
        pytest.skip(str(reason))
    torch.manual_seed(6)
    where = {"dtype": torch.bfloat16, "device": card.torch_device}
    query = torch.randn(2, heads, latent + rope, **where)  # type: ignore[call-overload]
    cache = torch.randn(2, tokens, latent + rope, **where)  # type: ignore[call-overload]
    key = cache.unsqueeze(1)
    exact = attention.reference(query, key, key[..., :latent], shape.scale)
    assert attention.relative_error(attend(query, (cache,)), exact) < 3e-3


def test_a_step_in_a_child_process() -> None:
    asked = question("deepseek-v3", 4_096, 4)
    step = measure_decode_apart("cuda", DecodeQuestion(asked, Kernel.AUTO), lambda _: None)
    (layer,) = step.layers
    assert [time.kernel for time in layer.times] == list(kernels(layer.shape, "cuda"))
    assert all(time.layer_seconds or not time.available for time in layer.times)
    assert layer.latent
    assert layer.latent.naive_seconds
