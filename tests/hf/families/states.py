"""Recurrent states beside attention: expected bytes are worked out by hand."""

from __future__ import annotations

from tests.hf.configs import HEADS, MLA, Caches, F, mixed

STATES: Caches = [
    # conv (2 x 2 x 16 + 4 x 16) x 3 x 2 B, state 4 x 16 x 16 x 4 B
    (
        "qwen3-next",
        {
            "model_type": "qwen3_next",
            **HEADS,
            "num_hidden_layers": 4,
            "full_attention_interval": 4,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 16,
            "linear_value_head_dim": 16,
            "linear_conv_kernel_dim": 4,
        },
        512,
        3 * (128 * 3 * 2 + 4_096),
    ),
    # layers count from one; conv 3 x 2 x 16 x 3 x 2 B, state 2 x 16 x 16 x 4 B
    (
        "kimi linear",
        {
            "model_type": "kimi_linear",
            "num_hidden_layers": 2,
            **MLA,
            "linear_attn_config": {
                "full_attn_layers": [2],
                "kda_layers": [1],
                "num_heads": 2,
                "head_dim": 16,
                "short_conv_kernel_size": 4,
            },
        },
        1_152,
        576 + 2_048,
    ),
    # 8 heads x 64 x 64 x 4 B
    (
        "minimax-01",
        {
            "model_type": "minimax_text_01",
            **HEADS,
            "num_hidden_layers": 2,
            "attn_type_list": [0, 1],
        },
        512,
        131_072,
    ),
    # conv (4 x 16 + 2 x 2 x 8) x 3 x 2 B, state 4 x 16 x 8 x 4 B
    (
        "nemotron-h",
        {
            "model_type": "nemotron_h",
            **HEADS,
            "hybrid_override_pattern": "M-*E",
            "mamba_num_heads": 4,
            "mamba_head_dim": 16,
            "n_groups": 2,
            "ssm_state_size": 8,
            "conv_kernel": 4,
            "time_step_limit": [0, 1e308],
        },
        512,
        576 + 2_048,
    ),
    # one attention layer of 8; conv 2 x 64 x 3 x 2 B, state 128 x 16 x 4 B
    (
        "jamba",
        {
            "model_type": "jamba",
            **HEADS,
            "hidden_size": 64,
            "num_hidden_layers": 8,
            "attn_layer_period": 8,
            "attn_layer_offset": 4,
            "mamba_d_state": 16,
            "mamba_d_conv": 4,
            "mamba_expand": 2,
        },
        512,
        7 * (768 + 8_192),
    ),
    # conv tail of 2 x 64 x 2 B
    (
        "lfm2",
        {"model_type": "lfm2", **mixed("conv", F), "hidden_size": 64, "conv_L_cache": 3},
        512,
        256,
    ),
]
