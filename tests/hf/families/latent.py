"""Latent vectors, index keys and compressed keys: expected bytes are worked out by hand."""

from __future__ import annotations

from tests.hf.configs import HEADS, MLA, Caches

LATENT: Caches = [
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
]
