"""Figures that contradict one another, and what a family is not known to have, are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.hf.configs import F, L, S, refusal
from tests.hf.models import changed

SLIDING: list[tuple[str, dict[str, Any], str]] = [
    ("google/gemma-2-2b", {"layer_types": [S] * 25 + ["novel"]}, "'novel'"),
    ("google/gemma-2-2b", {"layer_types": [S, F]}, "2 entries for 26 layers"),
    ("exaone4 by letters, small", {"sliding_window_pattern": "LXG"}, "known are L and G"),
    (
        "CohereLabs/c4ai-command-r7b-12-2024",
        {"layer_types": [S] * 32, "sliding_window_pattern": 4},
        "layer_types and sliding_window_pattern contradict each other",
    ),
    ("qwen2 windows, small", {"use_sliding_window": False}, "use_sliding_window is off, but"),
    ("Qwen/Qwen3-30B-A3B", {"use_sliding_window": True}, "runtimes disagree"),
    (
        "mistral, small",
        {"layer_types": [F] * 4, "sliding_window": 8},
        "layer_types and sliding_window contradict",
    ),
    ("gemma4_text, small", {"layer_types": [F, S, S, S]}, "last layer is not full attention"),
    ("gemma4_text, small", {"num_kv_shared_layers": 4}, "leaves no layer of each type"),
    (
        "gemma4_text as transformers saves it, small",
        {"per_layer_config": {"4": {"head_dim": 8}}},
        "per_layer_config.4: there is no such layer among 4",
    ),
    (
        "gemma4_text as transformers saves it, small",
        {"per_layer_config": {"3": {"head_dim": 32, "sliding_window": 9}}},
        "per_layer_config.3.sliding_window: what that does to a layer is not known",
    ),
    ("XiaomiMiMo/MiMo-V2-Flash", {"hybrid_layer_pattern": None}, "hybrid_layer_pattern is missing"),
    ("XiaomiMiMo/MiMo-V2-Flash", {"hybrid_layer_pattern": [2] * 48}, "known are 0 and 1"),
    (
        "stepfun-ai/Step-3.5-Flash",
        {"num_sliding_attention_heads": 8},
        "but num_sliding_attention_heads is 8",
    ),
    ("llama4 with a tower, small", {"text_config": {"moe_layers": [9]}}, "does not exist"),
    (
        "llama4 with a tower, small",
        {"text_config": {"no_rope_layers": [0, 1, 1, 1]}},
        "layer_types and text_config.no_rope_layers contradict each other",
    ),
]
LATENT: list[tuple[str, dict[str, Any], str]] = [
    ("zai-org/GLM-5", {"layer_types": [S] * 78}, "layer_types names other layers than indexed"),
    ("zai-org/GLM-5", {"indexer_types": ["own"] * 78}, "names 'own'; known: full, shared"),
    (
        "deepseek-ai/DeepSeek-V4-Pro",
        {"quantization_config": {"kv_cache_quant_algo": "NVFP4"}},
        "asks for nvfp4, this family is kept as fp8_ds_mla",
    ),
    ("deepseek-ai/DeepSeek-V4-Pro", {"compress_ratios": [2] * 61}, "a layer compresses by 2"),
    ("deepseek-ai/DeepSeek-V4-Pro", {"compress_ratios": [4]}, "1 entries for 61 layers"),
    ("deepseek-ai/DeepSeek-V4-Pro", {"compress_ratios": None}, "compress_ratios, compress_rates"),
    ("deepseek-ai/DeepSeek-V4-Pro", {"o_groups": 7}, "not a multiple of 7"),
    ("minimax_m3_vl_text, small", {"layer_types": [L] * 4}, "minimax_m3_sparse"),
    (
        "MiniMaxAI/MiniMax-M3",
        {"sparse_attention_config": {"sparse_attention_freq": None}},
        "sparse_attention_freq is missing",
    ),
    ("MiniMaxAI/MiniMax-M2", {"attn_type_list": [0] * 62}, "lightning"),
    ("tencent/Hunyuan-A13B-Instruct", {"use_mla": True}, "use_mla"),
]
STATES: list[tuple[str, dict[str, Any], str]] = [
    (
        "moonshotai/Kimi-Linear-48B-A3B-Instruct",
        {"linear_attn_config": {"full_attn_layers": [1], "kda_layers": [0]}},
        "do not name each of 27 layers once",
    ),
    (
        "moonshotai/Kimi-Linear-48B-A3B-Instruct",
        {"linear_attn_config": {"kda_layers": None}},
        "kda_layers",
    ),
    ("bamba, small", {"attn_layer_indices": [99]}, "names a layer that does not exist"),
    ("bamba, small", {"mamba_d_ssm": 1}, "mamba_d_ssm is 1, but mamba_n_heads × mamba_d_head is"),
    ("bamba, small", {"mamba_ssm_cache_dtype": "int8"}, "mamba_ssm_cache_dtype is 'int8'"),
    ("lfm2, small", {"full_attn_idxs": [0]}, "layer_types and full_attn_idxs contradict"),
    (
        "bamba, small",
        {"attn_layer_indices": None, "layer_types": ["novel"] * 4},
        "a layer is of type 'novel'; known for this family: attention,",
    ),
    ("mamba, small", {"hidden_size": 10**6, "expand": 64}, "would be 64,000,000, more than"),
    ("lfm2, small", {"conv_dim": 1}, "conv_dim is not hidden_size"),
    ("nemotron_h, small", {"num_hidden_layers": 99}, "num_hidden_layers is 99, but the pattern"),
    ("nemotron_h, small", {"hybrid_override_pattern": "MX"}, "a layer 'X'; known: M, *, -, E"),
    ("nemotron_h, small", {"hybrid_override_pattern": ""}, "has 0 layers"),
    (
        "nemotron_h, small",
        {"hybrid_override_pattern": "M", "layers_block_type": ["mlp"]},
        "hybrid_override_pattern and layers_block_type contradict each other",
    ),
    (
        "nemotron_h, small",
        {"hybrid_override_pattern": None, "layers_block_type": None},
        "hybrid_override_pattern, layers_block_type",
    ),
    ("jamba, small", {"attn_layer_offset": 99}, "no layer would attend"),
    ("zamba2, small", {"layers_block_type": None}, "layers_block_type is missing"),
    ("zamba2, small", {"layers_block_type": [L, "novel"]}, "layers_block_type has 2 entries"),
    ("zamba2, small", {"attention_head_dim": 1}, "not 2 × hidden_size ÷ num_attention_heads"),
    ("zamba2, small", {"mamba_headdim": 1}, "mamba_headdim is not"),
    ("mamba, small", {"intermediate_size": 1}, "intermediate_size is 1, not expand × hidden_size"),
    ("mamba2, small", {"num_heads": 1}, "num_heads × head_dim is not expand × hidden_size"),
]
OTHERS: list[tuple[str, dict[str, Any], str]] = [
    (
        "mpt, small",
        {"attn_config": {"attn_type": "novel"}},
        "attn_config.attn_type is 'novel', which is not known",
    ),
    ("databricks/dbrx-instruct", {"attn_config": None}, "attn_config is missing"),
    ("Qwen/Qwen-7B", {"intermediate_size": 22_015}, "22015 is not a multiple of 2"),
    ("nemotron-nas, small", {"block_configs": None}, "block_configs is missing"),
    (
        "meta-llama/Llama-3.2-11B-Vision-Instruct",
        {"text_config": {"cross_attention_layers": None}},
        "cross_attention_layers is missing",
    ),
    (
        "meta-llama/Llama-3.2-11B-Vision-Instruct",
        {"text_config": {"cross_attention_layers": [3, 3]}},
        "names a layer twice",
    ),
    ("meta-llama/Llama-3.2-11B-Vision-Instruct", {"vision_config": None}, "vision_config"),
    ("stepfun-ai/Step-3.5-Flash", {"moe_layers_enum": "4,99"}, "a layer that does not exist"),
    ("axk1, small", {"mlp_layer_types": ["novel"] * 4}, "mlp_layer_types names 'novel'"),
    ("olmoe, small", {"num_experts_per_tok": 99}, "num_experts_per_tok is 99"),
    (
        "olmoe, small",
        {"num_experts": 10**6, "intermediate_size": 10**6, "hidden_size": 10**6},
        "gate_proj would have 4,000,000,000,000,000,000 parameters",
    ),
]


MODELS = [*SLIDING, *LATENT, *STATES, *OTHERS]


@pytest.mark.parametrize(
    ("model", "changes", "message"), MODELS, ids=[f"{row[0]}: {row[2]}" for row in MODELS]
)
def test_a_model_that_contradicts_itself_is_refused(
    tmp_path: Path, model: str, changes: dict[str, Any], message: str
) -> None:
    assert message in refusal(tmp_path, changed(model, changes))


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"ffn": {}}, "attention is missing"),
        ({"attention": {"n_heads_in_group": 4, "window_length": 9}}, "window_length"),
        ({"attention": {"n_heads_in_group": 3}}, "8 heads do not divide into groups of 3"),
        (
            {"attention": {"n_heads_in_group": 4}, "ffn": {"ffn_mult": "wide"}},
            "ffn_mult has to be a number above zero",
        ),
    ],
)
def test_a_block_of_a_searched_architecture(
    tmp_path: Path, block: dict[str, Any], message: str
) -> None:
    """Nemotron-NAS: every layer has a configuration of its own."""
    config = {
        "model_type": "nemotron-nas",
        "num_hidden_layers": 1,
        "hidden_size": 64,
        "num_attention_heads": 8,
        "block_configs": [block],
    }
    assert message in refusal(tmp_path, config)
