"""Which layouts there are, what they hold, and which one is taken."""

from __future__ import annotations

from typing import Any

import pytest

import kvplan
from kvplan.errors import UsageError
from kvplan.planner.layouts import layouts

H100 = kvplan.load_gpu("h100")
LLAMA = kvplan.load("llama3-70b")
DEEPSEEK = kvplan.load("deepseek-v3")


def test_stages_keep_the_order_of_unlike_layers() -> None:
    """Gemma-3-27B: every sixth of 62 layers is full; halves of 31 have 5 of them each."""
    counts = [
        {kind.kind: layers for kind, layers, _ in stage.caches()}
        for stage in kvplan.load("gemma3-27b").stages(2)
    ]
    assert counts == [
        {"sliding_window": 26, "full_attention": 5},
        {"sliding_window": 26, "full_attention": 5},
    ]


@pytest.mark.parametrize(
    ("degrees", "tokens"),
    [
        # vLLM 0.33.0 with 40 GiB a rank: 611,184 tokens in whole pages of 16, and eight times that
        ({}, 611_184),
        ({"decode_context_parallel_size": 8}, 4_889_472),
    ],
)
def test_decode_context_parallelism_divides_latents(degrees: Any, tokens: int) -> None:
    plan = kvplan.plan(
        DEEPSEEK,
        gpu="h200",
        tensor_parallel_size=8,
        context_tokens=163_840,
        sequences=1,
        kv_cache_memory_bytes="40GiB",
        **degrees,
    )
    assert plan.max_context_tokens is not None
    assert 0 <= plan.max_context_tokens - tokens < 16 * plan.layout.context


def test_what_the_layouts_of_eight_gpus_hold() -> None:
    """The table that shows why a latent cache wants other than tensor parallelism.

    A latent is 1,152 B in each of 61 layers, whole on every GPU but where DCP divides its tokens.
    """
    plans = {
        plan.layout.name: plan
        for plan in kvplan.layouts(
            DEEPSEEK,
            gpu="h200",
            gpus=8,
            context_tokens="128k",
            sequences=1,
            gpu_memory_utilization=1.0,
            overhead=0,
        )
    }
    tensor, ranks, context = plans["TP8"], plans["DP8+EP8"], plans["TP8+DCP8"]
    assert tensor.budget.cache.bytes_per_token == 61 * 1_152
    assert ranks.budget.cache.bytes_per_token == 61 * 1_152
    assert context.budget.cache.bytes_per_token == 61 * 1_152 // 8
    room = 150_109_880_320 - ranks.budget.weights_bytes
    assert ranks.max_sequences == 8 * (room // (70_272 * 131_072))


def test_layouts_that_do_not_fit_come_last_by_what_they_lack() -> None:
    """Eight whole copies of 673,150,611,808 B lack most."""
    plans = kvplan.layouts(DEEPSEEK, gpu="h200", gpus=8, context_tokens="128k", sequences=1)
    lacking = [plan.missing_bytes for plan in plans]
    assert lacking == sorted(lacking)
    assert plans[-1].layout.name == "8 × TP1"
    unasked = [
        (plan.layout.context > 1, plan.layout.data > 1, plan.layout.pipeline)  # one has one rank
        for plan in plans
        if plan.fits
    ]
    assert unasked == sorted(unasked)


def test_every_layout_of_so_many_gpus() -> None:
    """Replicas of each, stages and context parallelism together."""
    names = {layout.name for layout in layouts(DEEPSEEK, 8)}
    assert {
        *("TP8", "DP8+EP8", "DP4×TP2", "PP2×TP4+DCP2", "2 × DP2×TP2+EP4", "8 × TP1", "PP8×TP1"),
        "PP2×DP2×TP2+EP4",
    } <= names
    assert {layout.name for layout in layouts(LLAMA, 4)} == {
        "4 × TP1",
        "2 × PP2×TP1",
        "PP4×TP1",
        "2 × TP2",
        "PP2×TP2",
        "TP4",
    }
    assert all(layout.gpus == 8 for layout in layouts(DEEPSEEK, 8))


def test_heads_that_do_not_divide_are_the_same_mistake_everywhere() -> None:
    messages = set()
    for answer in (
        lambda: kvplan.plan(LLAMA, tensor_parallel_size=3),
        lambda: kvplan.compare([LLAMA], tensor_parallel_size=3),
        lambda: kvplan.footprint(LLAMA, 1, tensor_parallel=3),
    ):
        with pytest.raises(UsageError) as caught:
            answer()
        messages.add((caught.value.message, caught.value.hint))
    assert len(messages) == 1


@pytest.mark.parametrize(
    ("model", "gpu", "options", "name"),
    [
        # 39 users of 32k: 12 whole sequences of 4 GiB beside 15 GiB of weights on each of four,
        # 13 on each of three
        ("llama3.1-8b", "h100", {"context_tokens": "32k", "sequences": 39}, "3 × TP1"),
        ("deepseek-v3", "h200", {"context_tokens": "32k", "sequences": 64}, "DP8+EP8"),
        ("llama3.1-8b", "rtx-4090", {}, "TP1"),
        # six would hold it, but 256 experts do not divide over six; recipes take the node of eight
        ("deepseek-v3", "b200", {"context_tokens": "32k", "sequences": 64}, "DP8+EP8"),
        # the same experts on six GPUs all the same: stages do not need an uneven split
        ("deepseek-v3", "b200", {"sequences": 1, "gpus": 6}, "PP3×TP2"),
        # one sequence of a model that no node holds: stages, and as few as can be
        ("deepseek-v3", "h100", {"context_tokens": "128k", "sequences": 1}, "PP2×TP8"),
    ],
)
def test_layouts_are_chosen_as_people_deploy(
    model: str, gpu: str, options: dict[str, Any], name: str
) -> None:
    assert kvplan.plan(model, gpu=gpu, **options).layout.name == name


def test_vllms_recipe_of_eight_ranks_fits() -> None:
    """``--data-parallel-size 8 --enable-expert-parallel``: 61 layers' experts over eight GPUs."""
    plan = kvplan.plan(
        DEEPSEEK,
        gpu="h200",
        data_parallel_size=8,
        enable_expert_parallel=True,
        context_tokens="32k",
        sequences=64,
    )
    assert plan.fits
    assert plan.layout.gpus == 8


def test_multi_head_latents_hold_five_times_the_batch() -> None:
    """DeepSeek-V2 beside its dense predecessor on eight H100, 4k contexts, both served in bf16.

    The paper's 5.76 times the throughput rests on fp8 weights and a 6-bit cache as well; bytes
    alone give 5.6 times less cache a token, and a batch that memory bounds.
    """
    dense, latent = kvplan.load("deepseek-llm-67b"), kvplan.load("deepseek-v2")
    per_token = [kvplan.footprint(spec, "4k").bytes_per_token for spec in (dense, latent)]
    assert per_token == [389_120, 69_120]
    on_eight = kvplan.plan(dense, gpu="h100", gpus=8, context_tokens="4k").max_sequences
    on_sixteen = kvplan.plan(
        latent,
        gpu="h100",
        tensor_parallel_size=16,
        decode_context_parallel_size=16,
        context_tokens="4k",
    ).max_sequences
    assert on_eight is not None
    assert on_sixteen is not None
    assert on_sixteen > 5 * on_eight


def test_layouts_of_one_count_have_a_bound() -> None:
    """720,720 GPUs have 240 divisors, and a server of experts any number of ranks."""
    with pytest.raises(UsageError, match="720,720 GPUs can be laid out in more than 2,500 ways"):
        layouts(DEEPSEEK, 720_720)
    assert layouts(DEEPSEEK, 576)


@pytest.mark.parametrize("gpus_per_node", [513, 1_000_000])
def test_a_node_may_have_more_gpus_than_a_search_tries(gpus_per_node: int) -> None:
    """LLaMA-3-70B, 141 GB of weights, on cards of 80 GB: two of them."""
    gpu = kvplan.Gpu(name="x", memory_bytes=80 * 2**30, gpus_per_node=gpus_per_node)
    plan = kvplan.plan("llama3-70b", gpu=gpu, context_tokens=1_024, sequences=1)
    assert plan.layout.gpus == 2
