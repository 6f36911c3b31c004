"""Recurrent and sparse families: what contradicts itself, or what engines differ on, is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.hf.configs import S, refusal, sizes, spec_of
from tests.hf.models import changed

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    (
        "zai-org/GLM-5.3-Flash",
        {"text_config": {"linear_attn_config": {"kda_layers": [0, 1]}}},
        "do not name each of 45 layers",
    ),
    ("glm5_next, small", {"text_config": {"layer_types": [S] * 8}}, "names 'sliding_attention'"),
    ("glm5_next, small", {"text_config": {"index_kpool": 1}}, "has to be 2 to"),
    ("glm5_next, small", {"text_config": {"index_kpool_compress": False}}, "index_kpool_compress"),
    ("qwen4_exp, small", {"indexer_kv_heads": 2}, "indexer_kv_heads is 2"),
    ("qwen4_exp, small", {"indexer_head_dim": None}, "indexer_head_dim is missing"),
    ("qwen4_exp, small", {"ple_layer_ids": [4]}, "no linear layer"),
    ("qwen4_exp, small", {"ple_layer_ids": [0]}, "no linear layer"),
    (
        "inkling_mm_model of 42 layers",
        {"text_config": {"local_layer_ids": None}},
        "layer_types is missing",
    ),
    ("inkling_mm_model of 42 layers", {"text_config": {"local_layer_ids": [42]}}, "does not exist"),
    ("inkling_mm_model of 42 layers", {"text_config": {"use_sconv": False}}, "use_sconv is false"),
    ("inkling_text, small", {"local_layer_ids": [0]}, "contradict each other"),
    ("inkling2_loop_text, small", {"loop_layer_index_end": 30}, "cannot be looped over"),
    (
        "deepseek-ai/DeepSeek-V4.1-Flash",
        {"text_config": {"kv_source_layer_ids": [8, 14, 20]}},
        "layer 2 compresses by 2, and no source before it does",
    ),
    (
        "deepseek-ai/DeepSeek-V4.1-Flash",
        {"text_config": {"kv_source_layer_ids": [0, 2, 8, 14, 20]}},
        "keeps a window alone",
    ),
    (
        "deepseek-ai/DeepSeek-V4.1-Flash",
        {"text_config": {"compress_ratios": [4] * 40}},
        "known are 0, 1 and 2",
    ),
    (
        "deepseek-ai/DeepSeek-V4.1-Flash",
        {"text_config": {"num_hidden_layers": 38}},
        "43 entries for 38 layers and 3 draft",
    ),
    ("inclusionAI/Ring-mini-linear-2.0", {"num_hidden_layers": 21}, "are not whole groups"),
    ("bailing_hybrid, a file with head_dim", {"num_hidden_layers": 9}, "are not whole groups"),
    ("RWKV/RWKV7-Goose-World2.8-0.1B-HF", {"attn": {"layers": [1]}}, "attn is set"),
    ("RWKV/RWKV7-Goose-World2.8-0.1B-HF", {"num_heads": 11}, "num_heads is 11, but"),
    ("RWKV/RWKV7-Goose-World2.8-0.1B-HF", {"value_dim": [768] * 11}, "11 entries for 12 layers"),
    ("rwkv6 of 24 layers", {"head_size": None}, "head_size is missing"),
    ("rwkv6 of 24 layers", {"num_heads": 30}, "num_heads is not"),
    ("recurrent_gemma, small", {"head_dim": 8}, "head_dim is not hidden_size"),
    ("recurrent_gemma, small", {"lru_width": 98}, "is not a multiple of num_attention_heads"),
    ("recurrent_gemma, small", {"block_types": ["novel"]}, "'novel'"),
    ("xlstm, small", {"qk_dim_factor": "half"}, "has to be a factor"),
    ("xlstm, small", {"inference_state_dtype": "float8"}, "a dtype that is not known"),
    ("zamba, small", {"layers_block_type": ["mamba"] * 3}, "3 entries for 10 layers"),
    ("zamba, small", {"n_mamba_heads": 7}, "is not a multiple of n_mamba_heads"),
    (
        "dots3_note_text, small",
        {"per_layer_config": {"2": {"kv_lora_rank": 40}}},
        "not the same for every sliding layer",
    ),
    (
        "mistral_large4, small",
        {"text_config": {"kv_source_layers": [0, 0, 1, 3, 4, 5, 6, 7]}},
        "layer 2 reads 1, which owns no latents",
    ),
    ("hy_v4, small", {"indexer_types": ["own"] * 6}, "names 'own'; known: full, shared"),
    ("zaya, small", {"cca_time0": 1, "cca_time1": 1}, "nothing is convolved"),
]


@pytest.mark.parametrize(("name", "changes", "problem"), REFUSED)
def test_is_refused(tmp_path: Path, name: str, changes: dict[str, Any], problem: str) -> None:
    assert problem in refusal(tmp_path, changed(name, changes))


def test_a_rings_class_tells_lightning_from_delta_attention(tmp_path: Path) -> None:
    """Both say bailing_hybrid; with Ling-3.0's class the states would need a convolution."""
    changes = {"architectures": ["BailingHybridForCausalLM"]}
    assert "short_conv_kernel_size" in refusal(
        tmp_path, changed("bailing_hybrid of BailingMoeV2_5", changes)
    )


def test_positions_of_rotary_axes_are_kept_with_the_open_pool(tmp_path: Path) -> None:
    """Three int64 beside 16 bf16: vLLM 0.33.0 models/qwen4_exp/common/qsa_cache.py:805."""
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 1, 1]}
    _, plain = sizes(spec_of(tmp_path, changed("qwen4_exp, small", {})))
    _, axes = sizes(spec_of(tmp_path, changed("qwen4_exp, small", {"rope_parameters": rope})))
    assert axes - plain == 4 * 3 * 8


def test_values_of_another_width_make_another_state(tmp_path: Path) -> None:
    """Twelve heads of 64 x 128 in three layers: 12 x 64 x 64 x 4 B more in each."""
    name, wide = "RWKV/RWKV7-Goose-World2.8-0.1B-HF", [768] * 9 + [1_536] * 3
    _, plain = sizes(spec_of(tmp_path, changed(name, {})))
    _, wider = sizes(spec_of(tmp_path, changed(name, {"value_dim": wide})))
    assert wider - plain == 3 * 12 * 64 * 64 * 4
