"""What is said beside a plan."""

from __future__ import annotations

from typing import Any

import pytest

import kvplan
from kvplan.gpu import Gpu
from kvplan.render import render
from kvplan.views.plan import plan_report
from kvplan.views.verdict import shortfall
from kvplan.views.words import caveats


@pytest.mark.parametrize(
    ("tensor", "said"),
    # 1,500 frames × 32 layers × 20 heads × 64 × key and value × 2 B = 245,760,000 B
    [(1, "(234.38 MiB)"), (2, "(117.19 MiB on each GPU)")],
)
def test_cross_attention_says_of_which_gpu_it_speaks(tensor: int, said: str) -> None:
    plan = kvplan.plan("whisper-large-v3", tensor_parallel_size=tensor, context_tokens=448)
    assert any(said in text for text in caveats(plan))


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({}, "or weights in a smaller dtype"),
        ({"max_loras": 400_000}, "or fewer LoRA slots"),
        ({"draft_model": "llama3.1-405b"}, "or a smaller draft model"),
    ],
)
def test_where_no_cache_has_room_the_largest_is_to_shrink(
    options: dict[str, Any], advice: str
) -> None:
    plan = kvplan.plan("llama3-70b", gpu="h100", gpus=1, context_tokens=1_024, **options)
    assert shortfall(plan).endswith(advice)


@pytest.mark.parametrize(
    "options",
    [
        {"context_tokens": 20_000_000_000_000, "gpus": 8},
        {"sequences": 1_000_000_000, "tensor_parallel_size": 8},
        {"sequences": 10**18, "context_tokens": 2**60, "gpu": Gpu(name="x", memory_bytes=2**20)},
        {"overhead": 10**18},
    ],
)
def test_the_bar_is_no_wider_than_the_terminal(options: dict[str, Any]) -> None:
    drawn = render(plan_report(kvplan.plan("llama3-70b", **options)), "table", width=80)
    assert "[" in drawn
    assert max(map(len, drawn.split("\n"))) <= 80
