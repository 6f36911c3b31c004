"""Keys that nobody reads: refused where they could change a cache, taken where they cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.hf.configs import HEADS, LLAMA, F, L, refusal, sizes, spec_of
from tests.hf.models import changed

V4 = "deepseek-ai/DeepSeek-V4-Flash"
PHI4_MINI: dict[str, Any] = {
    "architectures": ["Phi3ForCausalLM"],
    "model_type": "phi3",
    "full_attn_mod": 1,
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 32,
    "num_attention_heads": 24,
    "num_key_value_heads": 8,
    "vocab_size": 200064,
    "max_position_embeddings": 131072,
    "sliding_window": 262144,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
}


def test_phi_4_mini_says_that_every_layer_is_full(tmp_path: Path) -> None:
    """32 layers x 2 x 8 x 128 x 2 B; the published model has 3,836,021,760 parameters."""
    spec = spec_of(tmp_path, PHI4_MINI)
    assert (sizes(spec), spec.native_context_tokens) == ((131_072, 0), 131_072)
    assert spec.parameters is not None
    assert spec.parameters.total == 3_836_021_760
    multimodal = {**PHI4_MINI, "architectures": ["Phi4MMForCausalLM"], "model_type": "phi4mm"}
    assert sizes(spec_of(tmp_path, multimodal)) == (131_072, 0)


@pytest.mark.parametrize("value", [2, True, "1", [1]])
def test_another_full_attn_mod_is_refused(tmp_path: Path, value: object) -> None:
    assert "full_attn_mod" in refusal(tmp_path, {**PHI4_MINI, "full_attn_mod": value})


def test_a_width_that_follows_from_others_says_nothing_new(tmp_path: Path) -> None:
    """DeepSeek-V4's qk_nope_head_dim is 512 - 64."""
    derived = changed(V4, {"qk_nope_head_dim": 448, "num_nextn_predict_layers": 1})
    assert sizes(spec_of(tmp_path, derived)) == (6_229, 17_842_176)
    wrong = changed(V4, {"qk_nope_head_dim": 512})
    assert "qk_nope_head_dim is 512" in refusal(tmp_path, wrong)


GRANITE: dict[str, Any] = {
    "model_type": "granitemoehybrid",
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "mamba_d_conv": 4,
    "mamba_d_head": 64,
    "mamba_d_state": 256,
    "mamba_expand": 2,
    "mamba_n_groups": 1,
    "mamba_n_heads": 128,
    "torch_dtype": "bfloat16",
}
QWEN_NEXT: dict[str, Any] = {
    "model_type": "qwen3_next",
    **HEADS,
    "hidden_size": 512,
    "linear_conv_kernel_dim": 4,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "torch_dtype": "bfloat16",
    "linear_key_head_dim": 32,
    "linear_value_head_dim": 32,
}
KIMI: dict[str, Any] = {
    "model_type": "kimi_linear",
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "linear_num_heads": 8,
    "linear_head_dim": 64,
    "linear_conv_kernel_dim": 4,
    "torch_dtype": "bfloat16",
}


@pytest.mark.parametrize(
    ("config", "types", "per_token", "fixed"),
    [
        # 32 layers: conv (128 x 64 + 2 x 256) x 3 x 2 B and state 128 x 64 x 256 x 4 B
        (GRANITE, [L] * 32, 0, 32 * (52_224 + 8_388_608)),
        (GRANITE, [F] * 2, 2 * 2 * 32 * 128 * 2, 0),
        (QWEN_NEXT, [F] * 4, 4 * 512, 0),
        # conv (2 x 2 x 32 + 4 x 32) x 3 x 2 B and state 4 x 32 x 32 x 4 B
        (QWEN_NEXT, [L] * 4, 0, 4 * (1_536 + 16_384)),
        (KIMI, [F] * 4, 4 * 576 * 2, 0),
        # conv 3 x 8 x 64 x 3 x 2 B and state 8 x 64 x 64 x 4 B
        (KIMI, [L] * 4, 0, 4 * (9_216 + 131_072)),
    ],
)
def test_keys_of_layers_that_a_model_has_none_of(
    tmp_path: Path, config: dict[str, Any], types: list[str], per_token: int, fixed: int
) -> None:
    spec = spec_of(tmp_path, {**config, "layer_types": types, "num_hidden_layers": len(types)})
    assert sizes(spec) == (per_token, fixed)


@pytest.mark.parametrize(("start", "fixed"), [(32, 0), (40, 0), (28, 4 * 4_096 * 4_096)])
def test_windows_that_begin_after_the_last_layer(tmp_path: Path, start: int, fixed: int) -> None:
    """Qwen2Config windows the layers from max_window_layers on; 4,096 B a token and layer."""
    window = {"use_sliding_window": True, "sliding_window": 4096, "max_window_layers": start}
    qwen = {**LLAMA, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", **window}
    assert sizes(spec_of(tmp_path, qwen)) == (min(start, 32) * 4_096, fixed)


@pytest.mark.parametrize("model", ["exaone4, small", "exaone_moe, small", "afmoe, small"])
def test_a_list_of_types_needs_no_pattern(tmp_path: Path, model: str) -> None:
    """The class makes its pattern where layer_types is missing, and not beside it.

    4 layers x 2 x 2 heads x 16 x 2 B.
    """
    every = {"layer_types": [F] * 4, "sliding_window_pattern": None}
    every["global_attn_every_n_layers"] = None
    assert sizes(spec_of(tmp_path, changed(model, every))) == (512, 0)
