"""What changes the weights in a way that nobody has counted is named, and the caches stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.hf.configs import spec_of
from tests.hf.models import changed

VISION = "meta-llama/Llama-3.2-11B-Vision-Instruct"
ROWS: list[tuple[str, dict[str, Any], str]] = [
    ("mpt, small", {"attn_config": None}, "attn_config.alibi is off"),
    ("mpt, small", {"attn_config": {"qk_ln": True}}, "attn_config asks for norms"),
    ("databricks/dbrx-instruct", {"ffn_config": None}, "ffn_config is not in the file"),
    ("lfm2, small", {"block_ffn_dim_multiplier": 1.5}, "block_ffn_dim_multiplier is not 1"),
    (
        "bailing_hybrid, a file with head_dim",
        {"first_k_dense_replace": 1, "num_shared_experts": 1},
        "q_lora_rank is set",
    ),
    ("Qwen/Qwen-7B", {"no_bias": False}, "no_bias is off"),
    ("openbmb/MiniCPM-2B-sft-bf16", {"num_experts": 8}, "MiniCPM-MoE is not counted"),
    (VISION, {"text_config": {"tie_word_embeddings": True}}, "tie_word_embeddings"),
    ("nemotron-nas, small", {"block_configs": [{"attention": {"no_op": True}}] * 4}, "ffn is not"),
    (
        "nemotron-nas, small",
        {"block_configs": [{"attention": {"no_op": True}, "ffn": {}}] * 4},
        "ffn_mult is not in the file",
    ),
    ("MiniMaxAI/MiniMax-M2", {"shared_intermediate_size": 64}, "shared_intermediate_size is set"),
    ("minimax, small", {"shared_intermediate_size": 64}, "shared_intermediate_size is set"),
    ("THUDM/chatglm3-6b", {"rmsnorm": False}, "LayerNorm or a prefix encoder"),
    ("THUDM/chatglm3-6b", {"tie_word_embeddings": True}, "tie_word_embeddings is on"),
    ("opt, small", {"_remove_final_layer_norm": True}, "OPT without its norms"),
    ("xai-org/grok-2", {"residual_moe": None, "tie_word_embeddings": None}, "residual_moe"),
    ("tencent/Hunyuan-A13B-Instruct", {"moe_layer_num_skipped": 1}, "moe_layer_num_skipped"),
    ("moonshotai/Kimi-K3", {"text_config": {"linear_attn_config": {"num_heads": 48}}}, "96 heads"),
    ("stepfun-ai/Step-3.5-Flash", {"attention_other_setting": None}, "heads of sliding layers"),
    ("stepfun-ai/step3-text", {"num_hidden_layers": 4}, "first_k_dense_replace is not in"),
    (
        "LGAI-EXAONE/EXAONE-3.0-7.8B-Instruct",
        {"tie_word_embeddings": None},
        "tie_word_embeddings is not in the file",
    ),
    (
        "google/gemma-3-27b-it",
        {"tie_word_embeddings": True, "text_config": {"tie_word_embeddings": False}},
        "tie_word_embeddings differs between the levels of the file",
    ),
    ("voxtral around a small Llama", {"audio_config": {}}, "audio tower: no count of it yet"),
    ("mellum, small", {"num_local_experts": [8, 4, 8, 8]}, "num_local_experts"),
]
TOWERS: list[tuple[str, dict[str, Any], str]] = [
    ("moonshotai/Kimi-K2.5", {"mm_projector_type": "mlp"}, "mm_projector_type is not patchmerger"),
    ("moonshotai/Kimi-K3", {"attn_bias": True}, "vision_config.attn_bias is on"),
    ("moonshotai/Kimi-K3", {"norm_type": "layernorm"}, "not Kimi-K3's own"),
    ("google/gemma-4-26B-A4B", {"use_clipped_linears": True}, "use_clipped_linears is on"),
    (VISION, {"supported_aspect_ratios": None}, "supported_aspect_ratios is not in the file"),
    ("llama4 with a tower, small", {"multi_modal_projector_bias": True}, "projector_bias is on"),
]


@pytest.mark.parametrize(
    ("model", "changes", "reason"), ROWS, ids=[f"{row[0]}: {row[2]}" for row in ROWS]
)
def test_what_is_not_counted_is_named(
    tmp_path: Path, model: str, changes: dict[str, Any], reason: str
) -> None:
    spec = spec_of(tmp_path, changed(model, changes))
    assert spec.groups
    assert spec.parameters is None or spec.parameters.total is None
    assert reason in " ".join(spec.not_counted)


@pytest.mark.parametrize(
    ("model", "section", "reason"), TOWERS, ids=[f"{row[0]}: {row[2]}" for row in TOWERS]
)
def test_a_tower_that_is_not_counted_is_named(
    tmp_path: Path, model: str, section: dict[str, Any], reason: str
) -> None:
    """The language model's own weights are known all the same."""
    spec = spec_of(tmp_path, changed(model, {"vision_config": section}))
    assert spec.not_counted[0].startswith("vision tower: ")
    assert reason in spec.not_counted[0]
    assert "vision" not in {row.part for row in spec.weights}
    assert "attention" in {row.part for row in spec.weights}
