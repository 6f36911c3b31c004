"""GPU counts and longest contexts: tight at both ends, and never better with less."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import specs

import kvplan
from kvplan.errors import UsageError
from kvplan.fit import (
    Workload,
    fits,
    layout,
    max_context_tokens,
    smallest_layout,
    tensor_parallel_sizes,
)
from kvplan.parallel import Layout
from kvplan.spec import ModelSpec

H100 = kvplan.load_gpu("h100-sxm-80gb")


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
    ("model", "gpu", "gpus"),
    [
        # 131.42 GiB of weights and 40 GiB of cache on 79.18 GiB cards
        ("llama3-70b", "h100", 4),
        ("llama3-70b", "h200", 2),
        # 626.92 GiB over 8 is 78.4, and 8.58 GiB of latents on each do not fit beside it
        ("deepseek-v3", "h100", 16),
        ("deepseek-v3", "h200", 8),
        ("deepseek-v3", "b200", 4),
        ("llama2-7b", "h100", 2),  # 12.55 + 64 GiB on one card would be 76.6: fits, see below
    ],
)
def test_fewest_gpus_at_128k(model: str, gpu: str, gpus: int) -> None:
    found = smallest_layout(kvplan.load(model), Workload(131_072), kvplan.load_gpu(gpu))
    expected = 1 if model == "llama2-7b" else gpus
    assert found == Layout(expected)


def test_longest_context_by_hand() -> None:
    """Llama-3-70B on four H100: (85,017,493,504 - 141,107,412,992 / 4) / 81,920."""
    longest = max_context_tokens(kvplan.load("llama3-70b"), Workload(1), H100, Layout(4))
    assert longest == 607_185


@given(specs, st.integers(1, 100), st.integers(1, 300_000))
def test_the_longest_context_is_tight(spec: ModelSpec, sequences: int, tokens: int) -> None:
    work = Workload(tokens, sequences)
    where = Layout(1)
    longest = max_context_tokens(spec, work, H100, where)
    if longest is None:
        assert fits(spec, replace(work, context_tokens=10**15), H100, where)
        return
    assert longest == 0 or fits(spec, replace(work, context_tokens=longest), H100, where)
    assert not fits(spec, replace(work, context_tokens=longest + 1), H100, where)


@given(specs, st.integers(1, 50))
def test_more_gpus_never_hold_less(spec: ModelSpec, sequences: int) -> None:
    held = [
        max_context_tokens(spec, Workload(1, sequences), H100, Layout(size))
        for size in tensor_parallel_sizes(spec)
    ]
    as_numbers = [float("inf") if tokens is None else tokens for tokens in held]
    assert as_numbers == sorted(as_numbers)


@given(specs, st.integers(1, 300_000), st.integers(1, 40))
def test_the_smallest_layout_fits_and_no_smaller_one(
    spec: ModelSpec, tokens: int, sequences: int
) -> None:
    work = Workload(tokens, sequences)
    found = smallest_layout(spec, work, H100)
    for size in tensor_parallel_sizes(spec):
        if found is not None and size == found.gpus:
            assert fits(spec, work, H100, found)
            return
        assert not fits(spec, work, H100, Layout(size))
    assert found is None


def test_replicas_share_the_sequences() -> None:
    asked = layout(gpus=16, tensor_parallel=8)
    assert asked is not None
    assert (asked.gpus, asked.tensor, asked.replicas) == (16, 8, 2)


def test_gpus_that_are_no_whole_number_of_groups_are_refused() -> None:
    with pytest.raises(UsageError, match="12 GPUs are no whole number of groups of 8"):
        layout(gpus=12, tensor_parallel=8)
