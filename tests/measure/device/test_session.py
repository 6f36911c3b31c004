"""A whole measurement, on the CPU and on a card without memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kvplan.errors import KvplanError, RefusedError
from kvplan.measure.device import session
from kvplan.measure.device.session import measure
from kvplan.measure.question import CacheLayout, Kernel, Request
from tests.measure.device.fake_card import SEGMENT, fake_card
from tests.measure.samples import GIB, H100, MIB, question


def test_a_session_on_a_card(monkeypatch: pytest.MonkeyPatch) -> None:
    card = fake_card(monkeypatch, 80 * GIB)
    monkeypatch.setattr(session, "open_device", lambda _: card)
    monkeypatch.setattr(session, "read_card", lambda _: replace(H100, total_bytes=81 * GIB))
    both = (question("llama3-70b", 100_001), question("deepseek-v3", 100_000))
    measurement = measure(
        Request("cuda", both, (CacheLayout.VLLM, CacheLayout.WHOLE), find_max=True)
    )
    assert [cache.is_proved for cache in measurement.caches] == [True] * 4
    assert [cache.reserved_bytes for cache in measurement.caches] == [
        32_773_242_880 + 110_100_480,  # as the H100 counted it
        32_768_327_680 + 1_769_472,
        61 * 110 * MIB,  # 6,250 pages of 18,432 B are 109.86 MiB a layer
        -(-70_272 * 100_000 // SEGMENT) * SEGMENT,
    ]
    llama = measurement.maxima[0]
    assert llama.layout is CacheLayout.VLLM
    assert llama.weights_fit
    assert llama.plan_context_tokens == 80 * GIB // 327_680
    assert llama.context
    assert llama.context.value == 80 * GIB // (80 * SEGMENT) * 512  # 2 MiB hold 512 tokens
    assert llama.context.exact
    assert card.bounds == []

    bounded = measure(Request("cuda", both[:1], (CacheLayout.WHOLE,), max_bytes=GIB))
    assert bounded.caches[0].is_short
    assert card.bounds == [GIB, None]


def test_a_session_on_the_cpu() -> None:
    steps: list[str] = []
    shares: list[float] = []

    def on_step(step: str, share: float) -> None:
        steps.append(step)
        shares.append(share)

    request = Request(
        "cpu",
        (question("llama3-70b", 48), question("deepseek-v2-lite", 48)),
        (CacheLayout.ARITHMETIC, CacheLayout.VLLM),
        max_bytes=200 * MIB,
        find_max=True,
        decode=True,
    )
    measurement = measure(request, on_step)
    assert [(cache.question.spec.name, cache.layout.value) for cache in measurement.caches] == [
        ("llama3-70b", "arithmetic"),
        ("llama3-70b", "vllm"),
        ("deepseek-v2-lite", "arithmetic"),
        ("deepseek-v2-lite", "vllm"),
    ]
    maxima = measurement.maxima
    assert [model.context and model.context.value for model in maxima] == [640, 6_742]
    assert [model.plan_context_tokens for model in maxima] == [640, 6_742]
    assert [model.plan_sequences for model in maxima] == [13, 140]
    assert [step.read_bytes for step in measurement.decode] == [327_680 * 48, 31_104 * 48]
    assert [step.caches.sequences for step in measurement.same_memory] == [10]  # of 10.5
    assert "deepseek-v2-lite: vllm" in steps
    assert "deepseek-v2-lite: a decode step, torch" in steps
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] == pytest.approx(9 / 10)  # the last of ten steps has begun


def test_a_layout_that_one_model_lacks_is_passed_over() -> None:
    both = (question("glm-5.3-flash"), question("llama3-70b"))
    measurement = measure(Request("cpu", both, (CacheLayout.ARITHMETIC, CacheLayout.VLLM)))
    assert len(measurement.caches) == 3
    assert measurement.refused[0].startswith("glm-5.3-flash: ")
    with pytest.raises(RefusedError):
        measure(Request("cpu", both[:1], (CacheLayout.VLLM,)))


def test_limits_are_searched_in_a_layout_that_the_model_has() -> None:
    layouts = (CacheLayout.VLLM, CacheLayout.WHOLE)
    request = Request(
        "cpu", (question("glm-5.3-flash"),), layouts, max_bytes=100 * MIB, find_max=True
    )
    (glm,) = measure(request).maxima
    assert glm.layout is CacheLayout.WHOLE


def test_weights_come_first_where_asked_for() -> None:
    asked = question("qwen3-0.6b")
    weights = asked.spec.weights_bytes
    assert weights
    segments = -(-weights // SEGMENT) * SEGMENT
    bound = segments + 100 * MIB
    request = Request("cpu", (asked,), max_bytes=bound, find_max=True, reserve_weights=True)
    (maxima,) = measure(request).maxima
    assert maxima.weights_fit
    assert maxima.weights_bytes == segments
    assert maxima.context
    assert maxima.context.value == 100 * MIB // (28 * 2 * 8 * 128 * 2)
    (small,) = measure(replace(request, max_bytes=segments - 1)).maxima
    assert not small.weights_fit
    assert small.context is None


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request("cpu", (question("llama3-70b", tensor_parallel=3),)), "llama3-70b"),
        (Request("cpu", (question("mamba-2.8b"),), decode=True), "Mamba is not measured"),
        (
            Request("cpu", (question("llama3-70b", kv_cache_dtype="fp8"),), decode=True),
            "bf16 and fp16 caches, not fp8",
        ),
        (
            Request("cpu", (question("deepseek-v2-lite"),), decode=True, kernel=Kernel.SDPA),
            "not a kernel for MLA",
        ),
    ],
)
def test_questions_that_are_refused(request_: Request, message: str) -> None:
    with pytest.raises(KvplanError, match=message):
        measure(request_)


def test_weights_that_are_not_known_cannot_come_first() -> None:
    asked = question("llama3-70b")
    unknown = replace(asked, spec=replace(asked.spec, weights=()))
    with pytest.raises(RefusedError, match="the weights of llama3-70b are not known"):
        measure(Request("cpu", (unknown,), find_max=True, reserve_weights=True))


def test_a_model_whose_step_fails_takes_nothing_from_the_others() -> None:
    both = (question("deepseek-v2-lite"), question("deepseek-v2"))
    measurement = measure(Request("cpu", both, decode=True, kernel=Kernel.FLASHMLA))
    assert len(measurement.caches) == 2
    assert measurement.decode == ()
    assert [text.partition(":")[0] for text in measurement.failed] == [
        "deepseek-v2-lite",
        "deepseek-v2",
    ]
