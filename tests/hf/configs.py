"""Configs that tests of the importer share, and what is read of a spec."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kvplan.calc import footprint
from kvplan.errors import RefusedError
from kvplan.hf import read_config
from kvplan.spec import ModelSpec

REFERENCE = Path(__file__).parents[3] / "shared" / "reference"

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}
MLA: dict[str, Any] = {
    "num_attention_heads": 16,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "num_key_value_heads": 16,
    "head_dim": 72,
}
HEADS: dict[str, Any] = {"num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64}
# One key and one value of 2 x 64 in bf16: 512 B a token and layer.

Caches = list[tuple[str, dict[str, Any], float, int]]
"""What a config is, the config, and its bytes a token and fixed bytes a sequence."""


def write(folder: Path, config: object) -> Path:
    path = folder / "config.json"
    path.write_text(config if isinstance(config, str) else json.dumps(config), encoding="utf-8")
    return folder


def spec_of(folder: Path, config: object) -> ModelSpec:
    return read_config(write(folder, config))[0]


def refusal(folder: Path, config: object) -> str:
    """Why this config is refused: with the file's name, a way out and exit code 3."""
    with pytest.raises(RefusedError) as caught:
        spec_of(folder, config)
    assert "config.json" in caught.value.message
    assert "YAML spec" in (caught.value.hint or "")
    assert caught.value.exit_code == 3
    return caught.value.message


def sizes(spec: ModelSpec) -> tuple[float, int]:
    whole = footprint(spec, 1_000, kv_cache_dtype="bf16")
    return float(whole.bytes_per_token), whole.fixed_bytes_per_sequence


def mixed(*types: str) -> dict[str, Any]:
    return {**HEADS, "num_hidden_layers": len(types), "layer_types": list(types)}


S, F, L = "sliding_attention", "full_attention", "linear_attention"
