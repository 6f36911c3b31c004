"""Weights of one GPU: which parts are split, dealt out or copied; figures by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import kvplan
from kvplan.parallel import Layout
from kvplan.weights import StageLayers, weights_on_rank

GIB = 2**30
LLAMA = kvplan.load("llama3-70b")
DEEPSEEK = kvplan.load("deepseek-v3")


def weights_bytes(model: str, layout: Layout) -> int:
    spec = kvplan.load(model)
    return sum(
        line.size_bytes for line in weights_on_rank(spec, layout, StageLayers(spec.total_layers))
    )


def test_norms_are_copied_and_all_else_is_split() -> None:
    """Llama-3-70B: 161 norms of 8,192 in bf16 are whole on each of eight GPUs."""
    norms = 161 * 8_192 * 2
    assert weights_bytes("llama3-70b", Layout(8)) == (141_107_412_992 - norms) // 8 + norms


def test_data_parallel_ranks_copy_all_but_the_routed_experts() -> None:
    """DeepSeek-V3: 653,908,770,816 B of experts and 159,645,696 B of their scales, over eight."""
    experts = 653_908_770_816 + 159_645_696
    whole = 673_150_611_808
    assert weights_bytes("deepseek-v3", Layout(1)) == whole
    assert weights_bytes("deepseek-v3", Layout(1, data=8)) == (whole - experts + experts // 8)


def test_experts_are_whole_where_they_are_dealt_out() -> None:
    """256 experts over 72 GPUs: the fullest has 4, and not 3.56."""
    experts = 653_908_770_816 + 159_645_696
    lines = weights_on_rank(DEEPSEEK, Layout(1, data=72, expert_parallel=True), StageLayers(61))
    assert next(line.size_bytes for line in lines if line.part == "routed_experts") == (
        experts * 4 // 256
    )


def test_stages_take_their_share_of_layers_and_the_ends_their_own() -> None:
    """80 layers in 4 stages of 20; embedding on the first GPU, head on the last."""
    stages = LLAMA.stages(4)
    assert [stage.total_layers for stage in stages] == [20] * 4
    assert [stage.total_layers for stage in DEEPSEEK.stages(4)] == [15, 15, 16, 15]
    first = weights_on_rank(LLAMA, Layout(1, pipeline=4), StageLayers(20, first=True, last=False))
    assert {line.part for line in first} == {"embedding", "attention", "dense_mlp", "norm"}
    embedding = 128_256 * 8_192 * 2
    layers = 141_107_412_992 - 2 * embedding
    middle = weights_on_rank(LLAMA, Layout(1, pipeline=4), StageLayers(20, first=False, last=False))
    assert sum(line.size_bytes for line in middle) == layers // 4


def attention_bytes(model: str, tensor: int) -> int:
    spec = kvplan.load(model)
    lines = weights_on_rank(spec, Layout(tensor), StageLayers(spec.total_layers))
    return next(line.size_bytes for line in lines if line.part == "attention")


def test_projections_of_fewer_kv_heads_than_gpus_are_copied() -> None:
    """Llama-3-70B on 16: keys and values are 16 of 144 head rows, an eighth of them on each.

    80 layers x 8,192 columns x 144 heads x 128 in bf16; on a GPU 128/16 + 16/8 = 10 of 144.
    """
    whole = 80 * 8_192 * 144 * 128 * 2
    assert attention_bytes("llama3-70b", 8) == whole // 8
    assert attention_bytes("llama3-70b", 16) == whole * 10 // 144


def test_biases_are_shared_like_their_projections() -> None:
    """Qwen2.5-7B on 28: 28 heads of queries and output, 4 of keys and values: 2 + 2 of 64."""
    assert attention_bytes("qwen2.5-7b", 28) == -(-822_212_608 * 2 * 4 // 64)


def test_a_single_kv_head_is_on_every_gpu() -> None:
    """falcon-7b on 71: 71 heads of queries and output, one of keys and values: 2 + 2 of 144."""
    assert attention_bytes("falcon-7b", 71) == 1_340_080_128 * 2 * 4 // 144


def test_latent_attention_has_no_kv_projections_to_copy() -> None:
    """DeepSeek-V3's attention, its projections into the latents aside, divides over 128 heads."""
    weights = [row for row in DEEPSEEK.weights if row.part == "attention"]
    assert attention_bytes("deepseek-v3", 128) == -(-sum(r.size_bytes for r in weights) // 128)


REFERENCE = Path(__file__).parents[3] / "shared" / "reference" / "field.jsonl"
LOGGED = {
    # what engines printed after loading, GiB a GPU: (model, tensor parallel, tolerance)
    "F044": ("minimax-m2.5", 4, 0.005),
    # SGLang keeps the absorbed up-projections beside those of the file
    "F045": ("glm-5-nvfp4", 8, 0.05),
    "F064": ("llama3.1-8b", 1, 0.01),
    "F065": ("llama3.1-8b", 2, 0.02),
    "F086": ("llama3.1-8b", 1, 0.005),
    "F102": ("deepseek-v2-lite", 1, 0.01),
    "F101": ("llama3.1-8b", 1, 0.03),
    "F118": ("qwen3.6-35b-a3b", 1, 0.02),
    "F114": ("gemma4-26b-a4b", 1, 0.02),
    # vLLM keeps gpt-oss's experts as stored and pads them; its own figure is 4% to 9% more
    "F083": ("gpt-oss-20b", 1, 0.1),
}


@pytest.mark.skipif(not REFERENCE.is_file(), reason="no reference beside the checkout")
@pytest.mark.parametrize("identity", LOGGED)
def test_weights_are_what_engines_printed(identity: str) -> None:
    rows = {row["id"]: row for row in map(json.loads, REFERENCE.read_text().splitlines())}
    model, tensor, tolerance = LOGGED[identity]
    printed = float(str(rows[identity]["model_loading"]).split()[0]) * GIB
    assert weights_bytes(model, Layout(tensor)) == pytest.approx(printed, rel=tolerance)
