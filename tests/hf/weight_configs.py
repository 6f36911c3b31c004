"""Configs whose weights are counted by hand, and the rows of a spec."""

from __future__ import annotations

from typing import Any

from kvplan.spec import ModelSpec

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 32_000,
    "hidden_size": 4096,
    "intermediate_size": 11_008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}


EXPERTS: dict[str, Any] = {
    "model_type": "qwen3_moe",
    "vocab_size": 1000,
    "hidden_size": 256,
    "head_dim": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 128,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}


# 8 experts x 3 matrices of 128 x 256, in 2 layers
ROUTED = 2 * 8 * 3 * 128 * 256


# Embedding and head, q and o, k and v, three matrices of the MLP, norms
PARAMETERS = (
    2 * 32_000 * 4096
    + 32 * (2 * 4096 * 4096 + 2 * 1024 * 4096 + 3 * 4096 * 11_008 + 2 * 4096)
    + 4096
)


ONE_MATRIX = 4096 * 11_008


def rows(spec: ModelSpec, part: str) -> list[tuple[str, int]]:
    return [(row.dtype, row.elements) for row in spec.weights if row.part == part]
