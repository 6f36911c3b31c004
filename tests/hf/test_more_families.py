"""More families, read to the byte; expected bytes are worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kvplan.hf import read_config, to_yaml
from kvplan.registry.names import read_model
from tests.hf.configs import HEADS, MLA, F, mixed, sizes, spec_of, write

FAMILIES: list[tuple[str, dict[str, Any], float, int]] = [
    # 512 + 64 of 2 B, once and not for each head
    ("mla", {"model_type": "deepseek_v3", "num_hidden_layers": 61, **MLA}, 70_272, 0),
    ("longcat", {"model_type": "longcat_flash", "num_layers": 28, **MLA}, 64_512, 0),
    # 10 x 1,152 and 3 index keys of 132 B
    (
        "shared indexers",
        {
            "model_type": "glm_moe_dsa",
            "num_hidden_layers": 10,
            **MLA,
            "index_head_dim": 128,
            "indexer_types": ["full"] * 3 + ["shared"] * 7,
        },
        11_520 + 396,
        0,
    ),
    # 512 x 2 B / 4 + 132 B / 4 + 512 x 2 B / 128; 3 windows of 8 x 1,024 B, then fp32 states
    (
        "deepseek v4",
        {
            "model_type": "deepseek_v4",
            "num_hidden_layers": 3,
            "head_dim": 512,
            "num_attention_heads": 64,
            "num_key_value_heads": 1,
            "qk_rope_head_dim": 64,
            "index_head_dim": 128,
            "sliding_window": 8,
            "compress_ratios": [0, 4, 128],
        },
        256 + 33 + 8,
        3 * 8 * 1024 + 65_536 + 16_384 + 524_288,
    ),
    (
        "minimax m3",
        {
            "model_type": "minimax_m3",
            **HEADS,
            "num_hidden_layers": 3,
            "sparse_attention_config": {
                "use_sparse_attention": True,
                "sparse_attention_freq": [0, 1, 1],
                "sparse_index_dim": 128,
            },
        },
        3 * 512 + 2 * 256,
        0,
    ),
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
    (
        "hunyuan cla",
        {
            "model_type": "hunyuan",
            **HEADS,
            "num_hidden_layers": 4,
            "use_cla": True,
            "cla_share_factor": 2,
        },
        1_024,
        0,
    ),
    (
        "hunyuan without",
        {
            "model_type": "hunyuan",
            **HEADS,
            "num_hidden_layers": 4,
            "use_cla": False,
            "cla_share_factor": 2,
        },
        2_048,
        0,
    ),
    # full 1 x (24 + 16) x 2 B; sliding 2 x 40 x 2 B
    (
        "mimo v2",
        {
            "model_type": "mimo_v2_flash",
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "head_dim": 24,
            "v_head_dim": 16,
            "swa_num_attention_heads": 4,
            "swa_num_key_value_heads": 2,
            "swa_head_dim": 24,
            "swa_v_head_dim": 16,
            "sliding_window": 10,
            "hybrid_layer_pattern": [0, 1],
        },
        80,
        1_600,
    ),
    (
        "nemotron-nas",
        {
            "model_type": "nemotron-nas",
            "num_hidden_layers": 2,
            "hidden_size": 512,
            "num_attention_heads": 8,
            "num_key_value_heads": None,
            "block_configs": [
                {"attention": {"n_heads_in_group": 4, "no_op": False}},
                {"attention": {"n_heads_in_group": None, "no_op": True}},
            ],
        },
        512,
        0,
    ),
]


@pytest.mark.parametrize(
    ("config", "per_token", "fixed"),
    [row[1:] for row in FAMILIES],
    ids=[row[0] for row in FAMILIES],
)
def test_family_is_right_to_the_byte(
    tmp_path: Path, config: dict[str, Any], per_token: float, fixed: int
) -> None:
    """Each family's small config gives the bytes that its figures multiply to."""
    assert sizes(spec_of(tmp_path, config)) == (per_token, fixed)


@pytest.mark.parametrize("config", [row[1] for row in FAMILIES], ids=[row[0] for row in FAMILIES])
def test_yaml_reads_back_to_the_same_spec(tmp_path: Path, config: dict[str, Any]) -> None:
    """What ``import`` writes is a spec file that means the same."""
    spec, provenance = read_config(write(tmp_path, config))
    path = tmp_path / "spec.yaml"
    path.write_text(to_yaml(spec, provenance), encoding="utf-8")
    assert read_model(path) == spec
