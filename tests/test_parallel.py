"""Layouts as users write them, and which of them can be."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

import kvplan
from kvplan.errors import RefusedError, UsageError
from kvplan.groups import Group
from kvplan.kinds import CacheKind
from kvplan.kinds.index_keys import PoolTail
from kvplan.kinds.recurrent import Mlstm, RgLru, Rwkv, Rwkv4, ShortConv
from kvplan.kinds.state import State
from kvplan.parallel import Layout, check_layout, tensor_parallel_sizes
from kvplan.question import ask
from kvplan.spec import ModelSpec


@pytest.mark.parametrize(
    ("model", "sizes"),
    [
        ("llama3-70b", (1, 2, 4, 8, 16, 32, 64)),
        ("phi-4", (1, 2, 5, 10, 20, 40)),  # 40 heads, 10 KV heads
        ("qwen2.5-7b", (1, 2, 4, 28)),  # 28 heads, 4 KV heads: 7 GPUs can hold neither
        ("falcon-7b", (1, 71)),
        ("deepseek-v3", (1, 2, 4, 8, 16, 32, 64, 128)),
        ("nemotron-h-56b", (1, 2, 4, 8, 16, 32, 64)),
        ("mamba2-2.7b", (1, 2, 4, 5, 8, 10, 16, 20, 40, 80)),
        ("glm-5.3-flash", (1, 2, 4, 8, 16, 32, 64)),  # 64 heads of either attention
    ],
)
def test_groups_over_which_all_heads_can_be_laid_out(model: str, sizes: tuple[int, ...]) -> None:
    assert tensor_parallel_sizes(kvplan.load(model)) == sizes


@pytest.mark.parametrize(
    ("model", "layout", "problem"),
    [
        ("llama3-70b", Layout(3), "cannot be divided over tensor_parallel_size 3"),
        (
            "llama3-70b",
            Layout(8, context=3),
            "decode_context_parallel_size 3 does not divide tensor_parallel_size 8",
        ),
        (
            "llama3-70b",
            Layout(8, context=2),
            "needs a tensor_parallel_size of 2 times its 8 KV heads",
        ),
        (
            "llama3-70b",
            Layout(1, pipeline=81),
            "llama3-70b has 80 layers; it cannot be split into 81 pipeline stages",
        ),
        ("llama3-70b", Layout(2, expert_parallel=True), "no routed experts"),
        # 2,048 in blocks of 128: sixteen slices, and not thirty-two
        ("deepseek-v3", Layout(8, data=4), "cannot be sliced over 32 GPUs"),
    ],
)
def test_layouts_that_cannot_be_are_refused(model: str, layout: Layout, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        check_layout(kvplan.load(model), layout)


def test_a_window_is_not_divided_by_context() -> None:
    with pytest.raises(RefusedError, match="sliding window"):
        check_layout(kvplan.load("gpt-oss-120b"), Layout(16, context=2))


def test_draft_layers_that_are_served_have_to_divide_too() -> None:
    spec = kvplan.load("deepseek-v3")
    assert kvplan.footprint(spec, 1, tensor_parallel=128, draft=True).bytes_per_token == 62 * 1_152


def written(options: dict[str, Any]) -> Layout | None:
    return ask(["llama3-8b"], **options).layout


@pytest.mark.parametrize(
    ("degrees", "layout"),
    [
        ({}, None),
        ({"gpus": 8}, None),
        ({"tensor_parallel_size": 8}, Layout(8)),
        ({"tensor_parallel_size": 8, "gpus": 16}, Layout(8, replicas=2)),
        ({"pipeline_parallel_size": 2, "gpus": 6}, Layout(1, pipeline=2, replicas=3)),
        ({"tensor_parallel_size": 2, "replicas": 3}, Layout(2, replicas=3)),
        (
            {"data_parallel_size": 8, "enable_expert_parallel": True},
            Layout(1, data=8, expert_parallel=True),
        ),
    ],
)
def test_degrees_make_a_layout_and_gpus_replicas_of_it(
    degrees: dict[str, Any], layout: Layout | None
) -> None:
    assert written(degrees) == layout


@pytest.mark.parametrize(
    ("degrees", "problem"),
    [
        (
            {"tensor_parallel_size": 8, "gpus": 12},
            "12 GPUs is not a multiple of tensor_parallel_size 8",
        ),
        (
            {"tensor_parallel_size": 2, "pipeline_parallel_size": 2, "gpus": 6},
            "6 GPUs is not a multiple of the 4 GPUs of PP2×TP2",
        ),
        (
            {"tensor_parallel_size": 2, "replicas": 2, "gpus": 8},
            "2 × TP2 takes 4 GPUs, not 8",
        ),
        ({"enable_expert_parallel": True, "gpus": 8}, "enable_expert_parallel needs a layout"),
        ({"tensor_parallel_size": 0}, "tensor_parallel_size has to be a whole number"),
    ],
)
def test_degrees_that_make_no_layout(degrees: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        written(degrees)
    assert problem in caught.value.message


def test_ranks_of_a_dense_model_are_replicas() -> None:
    layout = Layout(2, data=3, replicas=2)
    assert layout.of(kvplan.load("llama3-70b")) == Layout(2, replicas=6)
    assert layout.of(kvplan.load("deepseek-v3")) == layout


@pytest.mark.parametrize(
    ("layout", "crossing"),
    [
        (Layout(8, replicas=4), None),
        (Layout(16), "TP"),
        (Layout(8, pipeline=2), "PP"),
        (Layout(1, data=16), "DP"),
        (Layout(1, data=16, expert_parallel=True), "EP"),
    ],
)
def test_what_leaves_a_node_of_eight(layout: Layout, crossing: str | None) -> None:
    assert layout.crosses(8) == crossing
    assert layout.crosses(72) is None


@pytest.mark.parametrize(
    ("kind", "tensor_parallel", "fixed"),
    [
        # whole on every GPU
        (State(elements=1_000), 4, 4_000),
        (State(elements=1_000, heads=10), 5, 800),
        (State(elements=1_000, heads=2, split="replicate", state_dtype="model"), 8, 1_000),
        (PoolTail(width=256, tokens=4), 4, 2_048),
        # keys of 4 KV heads: one of 16 elements on each of 8
        (ShortConv(channels=64, conv_kernel=4, heads=4), 8, 96),
        (ShortConv(channels=64, conv_kernel=4), 8, 48),
        (ShortConv(channels=64, conv_kernel=4, split="whole"), 8, 384),
        (RgLru(lru_width=64, num_heads=4, conv_kernel=4), 2, 32 * 3 * 2 + 32 * 4),
        (Mlstm(num_heads=4, qk_head_dim=8, v_head_dim=16), 2, 2 * (8 * 16 + 8 + 1) * 4),
        # the last inputs are on every GPU, the state's heads are divided
        (Rwkv4(hidden_size=64, attention_hidden_size=96), 4, 2 * 64 * 2 + 3 * 24 * 4),
        (Rwkv(hidden_size=64, num_heads=4, head_dim=16), 4, 2 * 64 * 2 + 16 * 16 * 4),
    ],
)
def test_what_a_gpu_keeps_of_a_state(kind: CacheKind, tensor_parallel: int, fixed: int) -> None:
    group = Group(layers=1, caches=(kind,))
    spec = ModelSpec(
        name="one", source="by hand", native_context_tokens=None, dtype="bf16", groups=(group,)
    )
    result = kvplan.footprint(spec, 64, tensor_parallel=tensor_parallel)
    assert result.fixed_bytes_per_sequence == fixed


def test_delta_states_are_divided_and_latents_are_not() -> None:
    """LMCache issue 5042: an engine's dump of GLM-5.3-Flash on four GPUs, 1,085,440 B a state."""
    result = kvplan.footprint(kvplan.load("glm-5.3-flash"), 1_152, tensor_parallel=4)
    assert result.bytes_per_token == 11 * 1_024 + 11 * 33
    assert result.fixed_bytes_per_sequence == 34 * 1_085_440 + 11 * 2_048


def test_a_pools_tail_does_not_stand_in_the_way_of_decode_context_parallelism() -> None:
    """Every rank keeps it whole (vLLM 0.33.0 models/glm5next/common/attention.py:178)."""
    spec = kvplan.load("glm-5.3-flash")
    check_layout(spec, Layout(8, context=2))
    result = kvplan.footprint(spec, 4_096, tensor_parallel=8, context_parallel=2)
    assert result.bytes_per_token == Fraction(11 * 1_024 + 11 * 33, 2)
    assert result.fixed_bytes_per_sequence == 34 * 542_720 + 11 * 2_048
