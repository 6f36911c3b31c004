"""A config.json of each family is read to the byte; expected bytes are worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kvplan.hf import read_config, to_yaml
from kvplan.registry.names import read_model
from tests.hf.configs import HEADS, LLAMA, F, S, mixed, sizes, spec_of, write

FAMILIES: list[tuple[str, dict[str, Any], float, int]] = [
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
