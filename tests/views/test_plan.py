"""What is said beside a plan."""

from __future__ import annotations

import csv
from io import StringIO
from typing import Any

import pytest

import kvplan
from kvplan.gpu import Gpu
from kvplan.render import render
from kvplan.views.plan import plan_report
from kvplan.views.verdict import shortfall
from kvplan.views.words import caveats
from tests.command_line import kvplan as command


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


def test_a_plan_as_csv_has_all_that_its_tables_have() -> None:
    """Llama 3.3 70B: 80 layers, width 8,192, MLP 28,672, 8 KV heads of 128, 128,256 words."""
    asked = "llama3.3-70b --gpu h100 -tp 4 -pp 2 --ctx 32k --sequences 2 --price 2.50"
    printed = command("plan", *asked.split(), "--format", "csv").stdout
    (row,) = csv.DictReader(StringIO(printed))
    expected = {
        "name": "llama3.3-70b",
        "gpu.name": "h100-sxm-80gb",
        "context_tokens": 32_768,
        "sequences": 2,
        "kv_cache_dtype": "bf16",
        "native_context_tokens": 131_072,
        "layout.name": "PP2×TP4",
        "weights.embedding": 128_256 * 8_192 * 2 // 4,
        "weights.attention": 40 * 2 * (8_192 * 8_192 + 8_192 * 8 * 128) * 2 // 4,
        "weights.dense_mlp": 40 * 3 * 8_192 * 28_672 * 2 // 4,
        "weights_shared_by.dense_mlp": 4,
        "weights_shared_by.norm": 1,
        # embedding, head and layers in 16 bit, with two norms a layer and one at the end
        "one_copy_weights_bytes": 2 * 70_553_706_496,
        "stages.1.layers": 40,
        "stages.2.kv_bytes": 2 * 32_768 * 40 * (2 * 2 * 128) * 2,
        "per_gpu.growing_bytes": 2 * 32_768 * 40 * (2 * 2 * 128) * 2,
        "cost.per_hour": 8 * 2.5,
    }
    assert {key: row.get(key) for key in expected} == {k: str(v) for k, v in expected.items()}
    for key in ("capacity.tokens", "capacity.max_sequences", "decode.step_seconds"):
        assert float(row[key]) > 0
