"""What is asked: names, units and layouts as users write them, and the same mistakes refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import kvplan
from kvplan.errors import UsageError
from kvplan.parallel import Layout
from kvplan.question import ask


def test_names_and_units_are_read() -> None:
    question = ask(
        ["deepseek-r1", kvplan.load("llama3-70b")],
        gpu="h200",
        context_tokens="32k",
        overhead="3GiB",
        kv_cache_memory_bytes="40GB",
        tensor_parallel_size=4,
        gpus=8,
    )
    assert [spec.name for spec in question.models] == ["deepseek-v3", "llama3-70b"]
    assert question.gpu.name == "h200-sxm-141gb"
    assert question.context_tokens == 32_768
    assert question.overhead_bytes == 3 * 2**30
    assert question.kv_cache_memory_bytes == 40 * 10**9
    assert question.layout == Layout(4, replicas=2)


def test_files_are_seen_from_the_folder_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "name: mine\nsource: notes\nnative_context_tokens: null\ndtype: bf16\n"
        "groups: [{layers: 1, caches: []}]\n"
    )
    assert ask(["mine.yaml"], folder=tmp_path).models[0].name == "mine"


@pytest.mark.parametrize(
    ("models", "options"),
    [
        ([], {}),
        ("llama3-8b", {}),
        ([None], {}),
        (["llama3-8b", ""], {}),
        (["llama3-8b"], {"context_tokens": 0}),
        (["llama3-8b"], {"context_tokens": 1.5}),
        (["llama3-8b"], {"context_tokens": True}),
        (["llama3-8b"], {"context_tokens": "lots"}),
        (["llama3-8b"], {"sequences": "many"}),
        (["llama3-8b"], {"gpu": "h1000"}),
        (["llama3-8b"], {"gpu": 7}),
        (["llama3-8b"], {"gpus": 0}),
        (["llama3-8b"], {"gpu_memory_utilization": 1.5}),
        (["llama3-8b"], {"gpu_memory_utilization": float("nan")}),
        (["llama3-8b"], {"gpu_memory_utilization": "0.9"}),
        (["llama3-8b"], {"overhead": "much"}),
        (["llama3-8b"], {"overhead": "3"}),
        (["llama3-8b"], {"overhead": 0.92}),
        (["llama3-8b"], {"overhead": True}),
        (["llama3-8b"], {"kv_cache_memory_bytes": -1}),
        (["llama3-8b"], {"context_tokens": ""}),
        (["llama3-8b"], {"pipeline_partition": [True, 31]}),
        (["llama3-8b"], {"price": float("nan")}),
        (["llama3-8b"], {"price": -1}),
        (["llama3-8b"], {"engine": "vllmm"}),
    ],
)
def test_what_cannot_be_asked_is_a_usage_error(models: Any, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        ask(models, **options)


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("context_tokens", 2**60),
        ("sequences", 10**18),
        ("max_num_seqs", 10**6),
        ("max_num_batched_tokens", 2**60),
        ("block_size", 10**6),
        ("num_speculative_tokens", 10**6),
        ("num_gpu_blocks_override", 10**18),
        ("gpus", 10**6),
        ("max_loras", 10**6),
        ("kv_offloading_size", 10**18),
        ("overhead", 10**18),
        ("kv_cache_memory_bytes", 10**18),
        ("price", 10**9),
        ("tensor_parallel_size", 10**6),
        ("pipeline_parallel_size", 10**6),
        ("data_parallel_size", 10**6),
        ("replicas", 10**6),
    ],
)
def test_every_number_has_a_bound(name: str, most: int) -> None:
    asked: dict[str, Any] = {name: most, "engine": "vllm"}
    ask(["llama3-70b"], **asked)
    for value in (most + 1, 10**400, 10**5_000):
        with pytest.raises(UsageError, match=f"{name} is more than {most:,}"):
            ask(["llama3-70b"], **(asked | {name: value}))


@pytest.mark.parametrize("price", [float("nan"), float("inf"), -1, True])
def test_a_price_is_a_finite_number(price: Any) -> None:
    with pytest.raises(UsageError, match="price must be a finite number, zero or more"):
        ask(["llama3-70b"], price=price)


def test_a_layout_has_no_more_gpus_than_a_question() -> None:
    with pytest.raises(UsageError, match="gpus is more than 1,000,000"):
        ask(["llama3-70b"], tensor_parallel_size=8, replicas=125_001)
