"""Layouts as users write them, and which of them can be."""

from __future__ import annotations

from typing import Any

import pytest

import kvplan
from kvplan.errors import RefusedError, UsageError
from kvplan.parallel import Layout, check_layout, tensor_parallel_sizes
from kvplan.question import ask


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
