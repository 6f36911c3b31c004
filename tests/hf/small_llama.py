"""A Llama of two layers: its config.json and its tensors; every test changes what it needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kvplan import hf
from kvplan.spec import ModelSpec
from tests.hf.safetensors_files import Tensors, write

# Llama of two layers: embedding and head 100 × 8, attention 8 × 8, 4 × 8 twice, 8 × 8, MLP 16 × 8
# three times.
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 4,
    "max_position_embeddings": 8192,
    "vocab_size": 100,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
UNKNOWN = {**CONFIG, "architectures": ["ZorkForCausalLM"], "model_type": "zork"}
PARAMETERS = 2 * 800 + 2 * (64 + 32 + 32 + 64 + 3 * 128 + 2 * 8) + 8  # 2,792


def layer(index: int, dtype: str = "BF16") -> Tensors:
    names = {
        "self_attn.q_proj": (8, 8),
        "self_attn.k_proj": (4, 8),
        "self_attn.v_proj": (4, 8),
        "self_attn.o_proj": (8, 8),
        "mlp.gate_proj": (16, 8),
        "mlp.up_proj": (16, 8),
        "mlp.down_proj": (8, 16),
    }
    root = f"model.layers.{index}"
    norms = {
        f"{root}.{name}.weight": ("BF16", (8,))
        for name in ("input_layernorm", "post_attention_layernorm")
    }
    return {**{f"{root}.{name}.weight": (dtype, shape) for name, shape in names.items()}, **norms}


def llama(layers: int = 2, dtype: str = "BF16") -> Tensors:
    ends: Tensors = {
        "model.embed_tokens.weight": ("BF16", (100, 8)),
        "lm_head.weight": ("BF16", (100, 8)),
        "model.norm.weight": ("BF16", (8,)),
    }
    inner = {name: tensor for i in range(layers) for name, tensor in layer(i, dtype).items()}
    return {**ends, **inner}


def read(
    folder: Path, tensors: Tensors, config: dict[str, Any] | None = None, assume: str | None = None
) -> ModelSpec:
    (folder / "config.json").write_text(json.dumps(config or CONFIG))
    write(folder / "model.safetensors", tensors)
    return hf.read_config(folder, assume)[0]


def rows(spec: ModelSpec) -> dict[tuple[str | None, str, str | None], int]:
    return {(row.part, row.dtype, row.what): row.elements for row in spec.weights}
