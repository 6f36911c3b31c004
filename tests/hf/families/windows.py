"""Windows and chunks, on all layers or some: expected bytes are worked out by hand."""

from __future__ import annotations

from tests.hf.configs import HEADS, LLAMA, Caches, F, S, mixed

WINDOWS: Caches = [
    # a window on every layer: 32 x 4,096 x 4,096 B
    (
        "mistral-7b",
        {
            **LLAMA,
            "architectures": None,
            "model_type": "mistral",
            "sliding_window": 4096,
            "max_position_embeddings": 32768,
        },
        0,
        536_870_912,
    ),
    (
        "mistral without",
        {**LLAMA, "architectures": None, "model_type": "mistral", "sliding_window": None},
        131_072,
        0,
    ),
    (
        "phi-3 window beyond context",
        {**LLAMA, "architectures": None, "model_type": "phi3", "sliding_window": 262144},
        131_072,
        0,
    ),
    (
        "qwen2 window switched off",
        {
            **LLAMA,
            "architectures": None,
            "model_type": "qwen2",
            "sliding_window": 4096,
            "use_sliding_window": False,
            "max_window_layers": 28,
        },
        131_072,
        0,
    ),
    # 28 full and 4 sliding layers of 4,096 B
    (
        "qwen2 window switched on",
        {
            **LLAMA,
            "architectures": None,
            "model_type": "qwen2",
            "sliding_window": 4096,
            "use_sliding_window": True,
            "max_window_layers": 28,
        },
        114_688,
        4 * 4096 * 4096,
    ),
    (
        "gemma2",
        {"model_type": "gemma2", **HEADS, "num_hidden_layers": 4, "sliding_window": 100},
        1_024,
        2 * 100 * 512,
    ),
    (
        "gemma3 one in six",
        {"model_type": "gemma3_text", **HEADS, "num_hidden_layers": 13, "sliding_window": 100},
        2 * 512,
        11 * 100 * 512,
    ),
    # class defaults of a nested text_config: 4 KV heads of 256, 4,096 B a layer
    (
        "gemma3-4b",
        {
            "model_type": "gemma3",
            "text_config": {
                "model_type": "gemma3_text",
                "hidden_size": 2560,
                "num_hidden_layers": 34,
                "sliding_window": 1024,
            },
        },
        5 * 4096,
        29 * 1024 * 4096,
    ),
    (
        "gemma3n shares the last layers",
        {
            "model_type": "gemma3n_text",
            **mixed(S, F, S, F),
            "sliding_window": 100,
            "num_kv_shared_layers": 2,
        },
        512,
        100 * 512,
    ),
    # full: 1 head of 128, two tensors in spite of k_eq_v: 512 B
    (
        "gemma4",
        {
            "model_type": "gemma4_text",
            **mixed(S, S, F),
            "sliding_window": 100,
            "num_kv_shared_layers": 0,
            "attention_k_eq_v": True,
            "global_head_dim": 128,
            "num_global_key_value_heads": 1,
        },
        512,
        2 * 100 * 512,
    ),
    (
        "exaone4 LLLG",
        {
            "model_type": "exaone4",
            **HEADS,
            "num_hidden_layers": 8,
            "sliding_window": 100,
            "sliding_window_pattern": "LLLG",
        },
        1_024,
        6 * 100 * 512,
    ),
    (
        "llama4",
        {
            "model_type": "llama4_text",
            **HEADS,
            "num_hidden_layers": 8,
            "attention_chunk_size": 100,
            "no_rope_layers": [],
        },
        1_024,
        6 * 100 * 512,
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
]
