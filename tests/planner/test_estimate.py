"""Times of a step and the experts that a batch touches, by hand."""

from __future__ import annotations

import pytest

import kvplan
from kvplan.planner.estimate import experts_touched

GIB = 2**30
LLAMA = kvplan.load("llama3-70b")
DEEPSEEK = kvplan.load("deepseek-v3")


def test_the_decode_floor_reads_active_weights_and_caches_once() -> None:
    """Llama-3-70B on four: a quarter of the weights less the embedding, and 81,920 B a token."""
    plan = kvplan.plan(LLAMA, tensor_parallel_size=4, context_tokens="8k", sequences=10)
    embedding = 128_256 * 8_192 * 2
    norms = 161 * 8_192 * 2
    weights = (141_107_412_992 - embedding - norms) // 4 + norms
    assert plan.decode_read_bytes == weights + 10 * 8_192 * 81_920
    assert plan.decode_floor_seconds == (weights + 10 * 8_192 * 81_920) / 3.35e12


def test_the_busiest_stage_bounds_a_step() -> None:
    """Two halves of 40 layers, an embedding looked up in the first and a head read in the last."""
    plan = kvplan.plan(
        LLAMA,
        tensor_parallel_size=2,
        pipeline_parallel_size=2,
        context_tokens="8k",
        sequences=10,
    )
    end, norms = 128_256 * 8_192 * 2, 161 * 8_192 * 2
    layers = (141_107_412_992 - 2 * end - norms) // 2 // 2 + norms // 2 + 10 * 8_192 * 40 * 2_048
    assert plan.decode_busiest_bytes == pytest.approx(layers + end // 2, rel=1e-6)
    assert plan.decode_read_bytes == pytest.approx(2 * layers + end // 2, rel=1e-6)
    assert plan.decode_floor_seconds == plan.decode_busiest_bytes / 3.35e12
    assert plan.tokens_per_second_bound == 10 / plan.decode_floor_seconds


@pytest.mark.parametrize(
    ("model", "gpu", "gpus"),
    [("deepseek-v3", "h200", 16), ("llama3.1-70b", "l4", 10), ("gpt-oss-120b", "h100", 8)],
)
@pytest.mark.parametrize("sequences", [1, 8])
def test_no_estimate_is_below_its_floor(model: str, gpu: str, gpus: int, sequences: int) -> None:
    plans = kvplan.layouts(model, gpu=gpu, gpus=gpus, context_tokens="8k", sequences=sequences)
    timed = [plan for plan in plans if plan.step and plan.decode_floor_seconds]
    assert timed
    for plan in timed:
        assert plan.step is not None
        assert plan.decode_floor_seconds is not None
        assert plan.step.seconds >= plan.decode_floor_seconds * (1 - 1e-9), plan.layout.name


def test_experts_of_one_token_are_the_fewest_that_are_read() -> None:
    """DeepSeek-V3: 37,552,282,624 active of 671,026,404,352: 8 of 256 experts."""
    plan = kvplan.plan(
        DEEPSEEK,
        gpu="h200",
        tensor_parallel_size=1,
        context_tokens=1,
        sequences=1,
        kv_cache_memory_bytes=GIB,
    )
    experts = 653_908_770_816 + 159_645_696
    rest = 673_150_611_808 - experts - 926_679_040 * 2
    assert plan.decode_read_bytes == pytest.approx(rest + experts / 32 + 70_272, rel=1e-9)


def test_a_batch_touches_the_experts_that_its_tokens_choose() -> None:
    """8 of 256: 1 − (31/32)^64 of them for 64 tokens, 86.9%; DeepSeek-V3 on 8 H200.

    Each GPU reads its share of the experts, all else, and the caches of its 8 sequences: 22 ms.
    """
    assert experts_touched(DEEPSEEK, 1) == pytest.approx(8 / 256)
    assert experts_touched(DEEPSEEK, 64) == pytest.approx(1 - (31 / 32) ** 64)
    plan = kvplan.plan(DEEPSEEK, gpu="h200", context_tokens="32k", sequences=64)
    assert plan.step is not None
    by_bytes = plan.step.seconds - plan.step.communication_seconds
    assert by_bytes == pytest.approx(0.022, rel=0.03)
    context = kvplan.plan(
        DEEPSEEK,
        gpu="h200",
        tensor_parallel_size=8,
        decode_context_parallel_size=8,
        context_tokens="32k",
        sequences=64,
    )
    assert context.step is not None
    assert context.step.seconds - context.step.communication_seconds == pytest.approx(
        0.019, rel=0.05
    )
