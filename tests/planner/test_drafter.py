"""A draft model beside the model: its caches and weights as lines of the budget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvplan
from kvplan.groups import Group
from kvplan.kinds.full_attention import FullAttention
from kvplan.kinds.sliding_window import SlidingWindow
from kvplan.spec import ModelSpec
from kvplan.stored import StoredWeights
from tests.command_line import answer
from tests.command_line import kvplan as run
from tests.strategies import specs

GIB = 1 << 30


def drafter(kv_heads: int = 8, window: int | None = None, **facts: Any) -> ModelSpec:
    """Five layers of attention and 512 MiB of weights that TP divides."""
    heads: dict[str, Any] = {
        "num_attention_heads": 64,
        "num_key_value_heads": kv_heads,
        "head_dim": 128,
    }
    cache = SlidingWindow(**heads, sliding_window=window) if window else FullAttention(**heads)
    return ModelSpec(
        **{
            "name": "drafter",
            "source": "by hand",
            "native_context_tokens": 1 << 20,
            "dtype": "bf16",
            "parameters": None,
            "weights": (StoredWeights(part="attention", dtype="bf16", elements=1 << 28),),
            "groups": (Group(layers=5, caches=(cache,)),),
            **facts,
        }
    )


def plan(model: str, beside: ModelSpec | None, **options: Any) -> kvplan.Plan:
    """A plan on B300s with the room of the caches given, so that nothing else is looked at."""
    fixed = {"gpu": "b300", "context_tokens": "32k", "sequences": 8, "overhead": 0}
    return kvplan.plan(model, **{**fixed, "draft_model": beside, **options})


def test_a_rank_of_attention_dp_keeps_the_drafter_whole() -> None:
    """24 MLA layers x 576 x 2 B, and 5 layers x 2 x 8 heads x 128 x 2 B (TensorRT-LLM#19040)."""
    degrees = {"data_parallel_size": 8, "enable_expert_parallel": True}
    budget = plan("kimi-k3", drafter(), kv_cache_memory_bytes=GIB, **degrees).budget
    assert budget.cache.own.bytes_per_token == 24 * 576 * 2 == 27_648
    assert budget.cache.of_drafter.bytes_per_token == 5 * 2 * 8 * 128 * 2 == 20_480
    assert budget.cache.bytes_per_token == 48_128
    assert budget.draft_weights_bytes == 512 << 20


def test_a_hybrid_and_its_drafter() -> None:
    """16 full layers x 2 x 4 heads x 256 x 2 B; the drafter in bf16 beside an fp8 cache."""
    both = plan("qwen3.5-27b", drafter(), tensor_parallel_size=1)
    assert both.budget.cache.bytes_per_token == 65_536 + 20_480 == 86_016
    fp8 = plan("qwen3.5-27b", drafter(), tensor_parallel_size=1, kv_cache_dtype="fp8")
    assert fp8.budget.cache.bytes_per_token == 32_768 + 20_480
    asked = plan("qwen3.5-27b", drafter(), tensor_parallel_size=1, draft_kv_cache_dtype="fp8")
    assert asked.budget.cache.bytes_per_token == 65_536 + 10_240


def test_tensor_parallelism_divides_heads_and_weights_as_the_models() -> None:
    budget = plan("qwen3.5-27b", drafter(), tensor_parallel_size=4).budget
    assert budget.cache.of_drafter.bytes_per_token == 20_480 // 4
    assert budget.draft_weights_bytes == 128 << 20
    copied = plan("llama3-70b", drafter(kv_heads=2), tensor_parallel_size=8).budget
    assert copied.cache.of_drafter.bytes_per_token == 5 * 2 * 1 * 128 * 2


def test_a_window_of_its_own_stays_bounded() -> None:
    cache = plan("llama3-70b", drafter(window=4_096), tensor_parallel_size=8).budget.cache
    assert cache.of_drafter.bytes_per_token == 0
    assert cache.of_drafter.bytes_per_sequence == 5 * 2 * 1 * 128 * 2 * 4_096


def test_the_last_pipeline_stage_has_it_and_a_second_embedding() -> None:
    """An EAGLE drafter reads the model's embedding, which lies on the first stage."""
    options: dict[str, Any] = {"tensor_parallel_size": 4, "pipeline_parallel_size": 2}
    both = plan("llama3-70b", drafter(), **options)
    alone = plan("llama3-70b", None, **options)
    assert both.budget.cache.drafter is not None
    embedding = 128_256 * 8_192 * 2 // 4
    assert both.budget.draft_weights_bytes == (128 << 20) + embedding
    assert both.budget.weights_bytes == alone.budget.weights_bytes  # equal stages, the last decides
    assert both.budget.cache.bytes_per_token == 40 * 2 * 2 * 128 * 2 + 20_480 // 4


def test_a_group_that_the_drafters_heads_do_not_divide_over_is_refused() -> None:
    odd = drafter()
    heads = FullAttention(num_attention_heads=12, num_key_value_heads=12, head_dim=128)
    odd = replace(odd, groups=(Group(layers=5, caches=(heads,)),))
    with pytest.raises(kvplan.UsageError, match="drafter: its heads cannot be divided"):
        plan("llama3-70b", odd, tensor_parallel_size=8)
    assert plan("llama3-70b", odd, gpus=8).layout.tensor in (1, 2, 4)


def test_weights_that_nobody_knows_are_refused() -> None:
    with pytest.raises(kvplan.RefusedError, match="the draft model, are not known"):
        plan("llama3-70b", drafter(weights=()), tensor_parallel_size=8)


def test_a_server_drafts_in_one_way() -> None:
    with pytest.raises(kvplan.UsageError, match="drafts with one of them"):
        plan("deepseek-v3", drafter(), tensor_parallel_size=8, draft=True)
    with pytest.raises(kvplan.UsageError, match="draft_kv_cache_dtype needs draft_model"):
        plan("deepseek-v3", None, tensor_parallel_size=8, draft_kv_cache_dtype="fp8")


def test_compare_and_layouts_count_it() -> None:
    rows = kvplan.compare(["llama3-70b"], "32k", gpu="h200", draft_model=drafter()).rows
    assert rows[0].footprint.bytes_per_token == 327_680 + 20_480
    assert rows[0].mha_ratio == pytest.approx(1 / 8)  # of the model alone
    best = kvplan.layouts("llama3-70b", gpu="h200", gpus=8, draft_model=drafter())[0]
    assert best.budget.draft_weights_bytes


def test_the_answer_says_it() -> None:
    fixed = ("plan", "llama3-70b", "--gpu", "h200", "-tp", "8", "--ctx", "32k")
    arguments = (*fixed, "--draft-model", "llama3.2-1b")
    document = answer(*arguments)
    assert document["inputs"]["draft_model"] == "llama3.2-1b"
    drafted = document["draft_model"]
    assert drafted["one_copy_bytes_per_token"] == 16 * 2 * 8 * 64 * 2
    assert drafted["kv_cache_dtype"] == "bf16"
    per_gpu = document["per_gpu"]
    assert per_gpu["kv_bytes"] == sum(
        per_gpu[key] for key in ("growing_bytes", "fixed_bytes", "draft_kv_bytes")
    )
    table = run(*arguments).stdout
    for line in ("draft model", "draft weights", "draft cache"):
        assert line in table


def test_tables_of_several_plans_name_it() -> None:
    arguments = ("llama3-70b", "--gpu", "h200", "--ctx", "32k", "--draft-model", "llama3.2-1b")
    for command in ("compare", "layouts"):
        said = " ".join(run(command, *arguments).stdout.split())
        assert "drafted by llama3.2-1b" in said
    row = answer("compare", *arguments)["models"][0]
    assert row["draft_bytes_per_token"] == 16 * 2 * 8 * 64 * 2
    assert row["bytes_per_token"] == 327_680 + row["draft_bytes_per_token"]


def test_a_deployment_names_one(tmp_path: Path) -> None:
    file = tmp_path / "deploy.yaml"
    file.write_text(
        "deployments:\n"
        "  - {name: chat, model: llama3-70b, gpu: h200, tensor_parallel_size: 8, context: 32k,\n"
        "     draft_model: llama3.2-1b, draft_kv_cache_dtype: fp8,\n"
        "     expect: {max_gpus: 8, stated: [{figure: bytes_per_token, value: 344064}]}}\n"
    )
    # 80 x 2 x 8 x 128 x 2 B, and 16 x 2 x 8 x 64 x 1 B
    assert kvplan.check(file).exit_code == 0


@settings(max_examples=50)
@given(specs, specs, st.sampled_from([1_000, 50_000]))
def test_a_drafter_never_adds_room(spec: ModelSpec, second: ModelSpec, tokens: int) -> None:
    options: dict[str, Any] = {"gpu": "h200", "tensor_parallel_size": 1, "context_tokens": tokens}
    options["sequences"] = 3
    alone = kvplan.plan(spec, **options)
    both = kvplan.plan(spec, **options, draft_model=second)
    assert both.budget.room_bytes <= alone.budget.room_bytes
    assert both.max_concurrency <= alone.max_concurrency
    assert both.budget.cache.total_bytes >= alone.budget.cache.total_bytes
