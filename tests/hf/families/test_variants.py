"""Keys that change a known model's caches or weights; what they change is worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.hf.configs import F, L, S, sizes, spec_of
from tests.hf.models import changed

# In small models a layer of full attention keeps 2 x 2 heads x 16 x 2 B = 128 B a token.
CACHES: list[tuple[str, dict[str, Any], float, int]] = [
    # 4 layers x 2 x 4, 1 or 2 heads x 16 x 2 B
    ("mpt, small", {"attn_config": None}, 1_024, 0),
    ("mpt, small", {"attn_config": {"attn_type": "multiquery_attention"}}, 256, 0),
    (
        "mpt, small",
        {"attn_config": {"attn_type": "grouped_query_attention", "kv_n_heads": 2}},
        512,
        0,
    ),
    # 24 layers x 2 x 16 heads x 128 x 2 B
    ("bigcode/gpt_bigcode-santacoder", {"multi_query": False}, 196_608, 0),
    # 28 layers x 2 x 32 heads x 128 x 2 B
    ("THUDM/chatglm3-6b", {"multi_query_attention": None}, 458_752, 0),
    # two full layers, two of chunks of 8
    (
        "llama4 with a tower, small",
        {"text_config": {"layer_types": None, "no_rope_layers": [1, 0, 1, 0]}},
        256,
        2 * 8 * 128,
    ),
    ("dots1, small", {"layer_types": [S, S, S, F]}, 128, 3 * 8 * 128),
    ("dots1, small", {"layer_types": None, "sliding_window": None}, 512, 0),
    # 60 layers x 2 x 4 heads x 128 x 2 B, and no index keys
    (
        "MiniMaxAI/MiniMax-M3",
        {"sparse_attention_config": {"use_sparse_attention": False}},
        122_880,
        0,
    ),
    # conv (8 x 8 + 2 x 2 x 8) x 3 x 2 B and state 8 x 8 x 8 x 4 B, twice
    ("bamba, small", {"mamba_d_head": "auto", "mamba_d_ssm": 64}, 256, 2 * (576 + 2_048)),
    # conv (8 x 16 + 2 x 2 x 8) x 3 x 2 B and state 8 x 16 x 8 x 4 B, or half of it in bf16
    ("bamba, small", {"mamba_d_head": "auto"}, 256, 2 * (960 + 4_096)),
    ("bamba, small", {"mamba_ssm_dtype": "bfloat16"}, 256, 2 * (960 + 2_048)),
    ("bamba, small", {"mamba_ssm_dtype": "auto"}, 256, 2 * (960 + 4_096)),
    ("lfm2, small", {"layer_types": None, "full_attn_idxs": [1]}, 128, 768),
    ("nemotron_h, small", {"layers_block_type": ["mamba", "moe", "attention", "mlp"]}, 128, 5_056),
]
# Totals that are known, and what a key adds to them or takes away.
TOTALS: list[tuple[str, dict[str, Any], int]] = [
    # as wide as hidden size over heads, which is what it means without the key
    ("openbmb/MiniCPM3-4B", {"v_head_dim": 64}, 4_073_875_968),
    # a bias of each router for 512 experts and 256 zero experts
    ("meituan-longcat/LongCat-Flash-Chat", {"router_bias": True}, 560_664_958_976 + 28 * 768),
    (
        "tencent/Hunyuan-A13B-Instruct",
        {"use_mixed_mlp_moe": False},
        80_393_183_232 - 32 * 3 * 3072 * 4096,
    ),
    ("tiiuae/falcon-40b", {"tie_word_embeddings": False}, 41_303_293_952 + 65_024 * 8192),
    # for q, k and v of the one hybrid layer: 128 x 128 down and up again
    ("zamba2, small", {"use_shared_attention_adapter": True}, 219_360 + 3 * 2 * 128 * 128),
    ("jamba, small", {"num_experts": 1}, 390_188 - 2 * (5 * 3 * 64 * 96 + 6 * 64)),
    # Kimi-K2.5's projector without a name is the only one that there is
    ("moonshotai/Kimi-K2.5", {"vision_config": {"mm_projector_type": None}}, 1_026_879_353_328),
    ("dots1, small", {"sliding_window": None}, 186_688),
    # an MLP 96 wide, not 256: two thirds of 96, rounded up
    ("lfm2, small", {"block_auto_adjust_ff_dim": False}, 269_472 - 4 * 3 * 64 * (256 - 96)),
]


@pytest.mark.parametrize(("model", "changes", "per_token", "fixed"), CACHES)
def test_caches(
    tmp_path: Path, model: str, changes: dict[str, Any], per_token: float, fixed: int
) -> None:
    assert sizes(spec_of(tmp_path, changed(model, changes))) == (per_token, fixed)


@pytest.mark.parametrize(("model", "changes", "total"), TOTALS)
def test_parameters(tmp_path: Path, model: str, changes: dict[str, Any], total: int) -> None:
    spec = spec_of(tmp_path, changed(model, changes))
    assert spec.parameters is not None
    assert spec.parameters.total == total


def test_buffers_of_a_tower_are_stored_and_are_not_parameters(tmp_path: Path) -> None:
    """gemma-4-26B-A4B as published, without two vectors of 1,152 in bf16."""
    config = changed("google/gemma-4-26B-A4B", {"vision_config": {"standardize": False}})
    spec = spec_of(tmp_path, config)
    assert spec.weights_bytes == 51_611_872_412 - 2 * 1152 * 2
    assert spec.parameters is not None
    assert spec.parameters.total == 25_805_933_872


def test_draft_layers_at_the_end_of_layer_types(tmp_path: Path) -> None:
    """Step-3.5 lists three of them after its 45 layers."""
    known = changed("stepfun-ai/Step-3.5-Flash", {})
    more = {"layer_types": [*known["layer_types"], S, S, S], "num_nextn_predict_layers": 3}
    spec = spec_of(tmp_path, {**known, **more})
    assert sizes(spec) == (49_152, 69_206_016)
    assert [(group.layers, group.caches[0].kind) for group in spec.draft] == [(3, "sliding_window")]


ERNIE_VL: dict[str, Any] = {
    "model_type": "ernie4_5_vl_moe_text",
    "vocab_size": 10,
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "moe_intermediate_size": [6, 4],
    "moe_num_experts": 5,
    "moe_num_shared_experts": 2,
    "moe_k": 2,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}
# Embedding, three times q, k, v and o, norms; then an MLP, or a layer of experts: five of text
# (3 x 8 x 6) and five of images (3 x 8 x 4), two routers with biases, a shared one 12 wide.
ERNIE_ROOT = 10 * 8 + 3 * (64 + 32 + 32 + 64) + 3 * 16 + 8
ERNIE_MLP = 3 * 8 * 16
ERNIE_EXPERTS = 5 * 144 + 5 * 96 + 2 * (5 * 8 + 5) + 3 * 8 * 12


@pytest.mark.parametrize(
    ("changes", "dense"), [({}, 1), ({"mlp_layer_types": ["dense", "sparse", "dense"]}, 2)]
)
def test_experts_of_images_are_no_active_parameters_of_text(
    tmp_path: Path, changes: dict[str, Any], dense: int
) -> None:
    spec = spec_of(tmp_path, {**ERNIE_VL, **changes})
    total = ERNIE_ROOT + dense * ERNIE_MLP + (3 - dense) * ERNIE_EXPERTS
    unused = 3 * 144 + 5 * 96 + 5 * 8 + 5
    assert spec.parameters is not None
    assert spec.parameters.total == total
    assert spec.parameters.active == total - (3 - dense) * unused


@pytest.mark.parametrize("changes", [{"moe_intermediate_size": 6}, {"moe_num_experts": [5, 5]}])
def test_experts_of_images_of_another_form_are_not_counted(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    spec = spec_of(tmp_path, {**ERNIE_VL, **changes})
    assert "moe_intermediate_size" in spec.not_counted[0]


def test_bailing_hybrid(tmp_path: Path) -> None:
    """A layer of delta attention with an MLP, one of latent attention with experts.

    Delta: five matrices of 8 x 8, one convolution of 24 x 4, decay of 2 and 8, 2 x 8 for beta, a
    norm of 4, 8 x 8 out. Latent: q 12 x 8, 8 x 8 and 16 x 6 for keys and values, a norm of 6,
    8 x 8 out, a gate of 2 x 8. Three experts of 3 x 5 x 8, one shared one, a router of 3 x 8.
    """
    config = {
        "model_type": "bailing_hybrid",
        "vocab_size": 10,
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "head_dim": 4,
        "short_conv_kernel_size": 4,
        "layer_group_size": 2,
        "kv_lora_rank": 6,
        "qk_rope_head_dim": 2,
        "qk_nope_head_dim": 4,
        "v_head_dim": 4,
        "num_experts": 3,
        "num_experts_per_tok": 2,
        "num_shared_experts": 1,
        "moe_intermediate_size": 5,
        "first_k_dense_replace": 1,
        "torch_dtype": "bfloat16",
    }
    delta = 5 * 64 + 24 * 4 + 2 + 8 + 16 + 4 + 64
    latent = 96 + 64 + 6 + 96 + 64 + 16
    experts = 4 * 3 * 5 * 8 + 24
    total = 2 * 80 + delta + latent + 5 * 8 + 3 * 8 * 16 + experts
    spec = spec_of(tmp_path, config)
    assert spec.parameters is not None
    assert (spec.parameters.total, spec.parameters.active) == (total, total - 3 * 5 * 8)
    # latent: 8 x 2 B a token; delta: convolutions of 24 x 3 x 2 B, state 2 x 4 x 4 x 4 B
    assert sizes(spec) == (16, 144 + 128)
    flat = {"linear_head_dim": 4, "linear_num_heads": 2, "linear_conv_kernel_dim": 4}
    saved = spec_of(tmp_path, {**config, **flat, "head_dim": 2, "layer_types": [L, F]})
    assert (saved.parameters, sizes(saved)) == (spec.parameters, sizes(spec))
