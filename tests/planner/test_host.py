"""Caches in the host's memory: how many tokens so many bytes hold."""

from __future__ import annotations

from typing import Any

import pytest

import kvplan
from tests.command_line import answer

GIB = 1 << 30


@pytest.mark.parametrize(
    ("model", "options", "token_bytes"),
    [
        # 36 layers x 2 x 8 heads x 128 x 2 B, on one GPU and on all of two
        ("qwen3-8b", {"tensor_parallel_size": 1}, 147_456),
        ("qwen3-8b", {"tensor_parallel_size": 2}, 147_456),
        # 16 GPUs have a copy each of 8 KV heads: twice the bytes
        ("qwen3-8b", {"tensor_parallel_size": 16}, 294_912),
        # a latent is stored once for a tensor group (vLLM 0.33.0, replicated_layout) ...
        ("deepseek-v3", {"tensor_parallel_size": 8}, 70_272),
        # ... and by every GPU where there are stages too
        ("deepseek-v3", {"tensor_parallel_size": 8, "pipeline_parallel_size": 2}, 8 * 70_272),
        ("deepseek-v3", {"data_parallel_size": 16, "enable_expert_parallel": True}, 70_272),
    ],
)
def test_tokens_are_bytes_over_what_all_gpus_of_a_rank_keep(
    model: str, options: dict[str, Any], token_bytes: int
) -> None:
    fixed: dict[str, Any] = {"gpu": "h200", "context_tokens": "8k", "sequences": 1}
    plan = kvplan.plan(model, **fixed, kv_offloading_size="44GiB", **options)
    assert plan.host_bytes_per_token == token_bytes
    assert plan.host_tokens == 44 * GIB // token_bytes


def test_the_answer_says_it() -> None:
    """44 GB of a hybrid at 39 KB hold about 1.1 million tokens (ninfer-rtx5090-mobile#3)."""
    document = answer("plan", "qwen3-8b", "--gpu", "h100", "--kv-offloading-size", "44GiB")
    assert document["host"]["tokens"] == 44 * GIB // 147_456 == 320_398
    assert document["inputs"]["kv_offloading_bytes"] == 44 * GIB


def test_a_model_without_growth_holds_any_number() -> None:
    plan = kvplan.plan("mamba2-2.7b", gpu="h100", kv_offloading_size="1GiB", context_tokens=8_192)
    assert plan.host_tokens is None
