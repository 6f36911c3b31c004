"""The share of a GPU that each engine uses where nobody says."""

from __future__ import annotations

import pytest

import kvplan


@pytest.mark.parametrize(
    ("engine", "share"),
    [  # config/cache.py of these releases
        ("none", 0.92),
        ("vllm", 0.92),
        ("vllm@0.20", 0.92),
        ("vllm@0.19", 0.9),
        ("vllm@0.9.2", 0.9),
    ],
)
def test_a_release_uses_its_own_share(engine: str, share: float) -> None:
    plan = kvplan.plan("qwen3-8b", gpu="h100", engine=engine, context_tokens=8_192)
    assert plan.question.gpu_memory_utilization == share
    given = kvplan.plan(
        "qwen3-8b", gpu="h100", engine=engine, context_tokens=8_192, gpu_memory_utilization=0.5
    )
    assert given.question.gpu_memory_utilization == 0.5
