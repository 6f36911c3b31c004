"""Attention over the whole text: expected bytes are worked out by hand."""

from __future__ import annotations

from tests.hf.configs import HEADS, LLAMA, Caches

FULL_ATTENTION: Caches = [
    # 32 layers x 2 x 8 heads x 128 x 2 B
    ("llama", LLAMA, 131_072, 0),
    ("llama without kv heads", {**LLAMA, "num_key_value_heads": None}, 524_288, 0),
    ("head_dim of its own", {**LLAMA, "head_dim": 64}, 65_536, 0),
    ("gpt2", {"model_type": "gpt2", "n_layer": 12, "n_head": 12, "n_embd": 768}, 36_864, 0),
    # 2 layers x 2 x 1 head x 16 x 2 B
    (
        "gpt_bigcode",
        {"model_type": "gpt_bigcode", "n_layer": 2, "n_head": 4, "n_embd": 64, "multi_query": True},
        128,
        0,
    ),
    (
        "falcon-7b",
        {
            "model_type": "falcon",
            "num_hidden_layers": 32,
            "num_attention_heads": 71,
            "hidden_size": 4544,
            "multi_query": True,
            "num_kv_heads": 71,
        },
        8_192,
        0,
    ),
    (
        "falcon-40b",
        {
            "model_type": "falcon",
            "num_hidden_layers": 60,
            "num_attention_heads": 128,
            "hidden_size": 8192,
            "multi_query": True,
            "num_kv_heads": 8,
            "new_decoder_architecture": True,
        },
        122_880,
        0,
    ),
    (
        "chatglm",
        {
            "model_type": "chatglm",
            "num_layers": 28,
            "num_attention_heads": 32,
            "hidden_size": 4096,
            "kv_channels": 128,
            "multi_query_attention": True,
            "multi_query_group_num": 2,
        },
        28_672,
        0,
    ),
    (
        "dbrx",
        {
            "model_type": "dbrx",
            "n_layers": 40,
            "n_heads": 48,
            "d_model": 6144,
            "attn_config": {"kv_n_heads": 8},
        },
        163_840,
        0,
    ),
    (
        "step-3",
        {
            "model_type": "step3_text",
            "num_hidden_layers": 61,
            "num_attention_heads": 64,
            "num_attention_groups": 1,
            "head_dim": 256,
        },
        62_464,
        0,
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
