"""vLLM 0.33.0's own answers for options, layouts and GPUs that its sizing table has no rows of.

options.jsonl was made with the Python sources of the 0.33.0 wheel, transformers 5.24.0 and torch on
a machine without a GPU: a stand-in CUDA platform of one capability and memory, the model class made
on the meta device, get_kv_cache_spec of every layer, then update_block_size_for_backend,
resolve_kv_cache_layout, get_global_kv_cache_groups, get_kv_cache_configs and get_kv_cache_capacity,
with 40 GiB for the caches of each GPU. ``answer`` is num_blocks, the tokens that it prints, its
block size, the blocks of a request of max_model_len and the bytes of a block on each stage;
``refused`` is what it raised.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kvplan.errors import KvplanError
from kvplan.planner.plan import Plan
from kvplan.planner.solve import solve
from kvplan.question import ask

_LINES = (Path(__file__).parent / "options.jsonl").read_text(encoding="utf-8").splitlines()
ROWS: list[dict[str, Any]] = [json.loads(line) for line in _LINES]


def name_of(row: dict[str, Any]) -> str:
    options = "-".join(f"{key}={value}" for key, value in row["options"].items())
    return f"{row['model']}-{row['gpu']}-{options}"


def plan_of(row: dict[str, Any]) -> Plan:
    layout = {
        f"{name}_parallel_size": row["options"].get(f"{name}_parallel_size", 1)
        for name in ("tensor", "pipeline")
    }
    question = ask(
        [row["model"]],
        **{
            **layout,
            "engine": "vllm@0.33.0",
            "gpu": row["gpu"],
            "sequences": 1,
            "kv_cache_memory_bytes": 40 << 30,
            "context_tokens": row["max_model_len"],
            **row["options"],
        },
    )
    return solve(question.models[0], question)


@pytest.mark.parametrize("row", [row for row in ROWS if "answer" in row], ids=name_of)
def test_what_vllm_answers(row: dict[str, Any]) -> None:
    plan = plan_of(row)
    pages = plan.budget.pages
    assert pages is not None
    assert row["answer"] == [
        plan.page_count,
        plan.tokens,
        pages.pool.page_tokens,
        pages.sequence_pages,
        list(pages.pool.stage_page_bytes),
    ]


@pytest.mark.parametrize("row", [row for row in ROWS if "refused" in row], ids=name_of)
def test_what_vllm_refuses(row: dict[str, Any]) -> None:
    with pytest.raises(KvplanError) as refused:
        plan_of(row)
    assert row["refused"] in refused.value.message
