"""A small config.json of each kind of family is read to the byte, and written as it was read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kvplan.calc import footprint
from kvplan.hf import read_config, to_yaml
from kvplan.registry.names import read_model
from tests.hf.configs import HEADS, sizes, spec_of, write
from tests.hf.families.full_attention import FULL_ATTENTION
from tests.hf.families.latent import LATENT
from tests.hf.families.states import STATES
from tests.hf.families.windows import WINDOWS

CONFIGS = [*FULL_ATTENTION, *WINDOWS, *LATENT, *STATES]


@pytest.mark.parametrize(
    ("config", "per_token", "fixed"),
    [row[1:] for row in CONFIGS],
    ids=[row[0] for row in CONFIGS],
)
def test_family_is_right_to_the_byte(
    tmp_path: Path, config: dict[str, Any], per_token: float, fixed: int
) -> None:
    """Each config gives the bytes that its figures multiply to."""
    assert sizes(spec_of(tmp_path, config)) == (per_token, fixed)


@pytest.mark.parametrize("config", [row[1] for row in CONFIGS], ids=[row[0] for row in CONFIGS])
def test_yaml_reads_back_to_the_same_spec(tmp_path: Path, config: dict[str, Any]) -> None:
    """What ``import`` writes is a spec file that means the same."""
    spec, provenance = read_config(write(tmp_path, config))
    path = tmp_path / "spec.yaml"
    path.write_text(to_yaml(spec, provenance), encoding="utf-8")
    assert read_model(path) == spec


def test_cross_attention_stands_apart(tmp_path: Path) -> None:
    """Mllama's crossed layer keeps 4 x (2² + 1) image tokens of 512 B and no text."""
    config = {
        "model_type": "mllama",
        "vision_config": {"image_size": 28, "patch_size": 14, "max_num_tiles": 4},
        "text_config": {
            "model_type": "mllama_text_model",
            **HEADS,
            "hidden_size": 512,
            "num_hidden_layers": 3,
            "cross_attention_layers": [1],
        },
    }
    whole = footprint(spec_of(tmp_path, config), 1_000, kv_cache_dtype="bf16")
    assert int(whole.bytes_per_token) == 1_024
    assert whole.cross_attention_bytes_per_sequence == 20 * 512


GEMMA4: dict[str, Any] = {
    "model_type": "gemma4_text",
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "sliding_window": 1024,
    "num_kv_shared_layers": 0,
    "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 2,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}


def test_a_file_saved_by_transformers_pads_its_layer_indices(tmp_path: Path) -> None:
    """Two full layers of 2 KV heads x 512, key and value, in bf16."""
    heads = {"head_dim": 512, "num_key_value_heads": 2}
    config = {**GEMMA4, "per_layer_config": {"05": heads, "11": heads}}
    assert sizes(spec_of(tmp_path, config))[0] == 2 * (2 * 2 * 512 * 2)


def test_falcon_mamba_is_as_wide_as_it_says(tmp_path: Path) -> None:
    """tiiuae/falcon-mamba-7b: 8,192 inside, whatever ``expand`` says; 7.27B as published."""
    spec = spec_of(
        tmp_path,
        {
            "model_type": "falcon_mamba",
            "architectures": ["FalconMambaForCausalLM"],
            "hidden_size": 4096,
            "intermediate_size": 8192,
            "expand": 16,
            "state_size": 16,
            "conv_kernel": 4,
            "num_hidden_layers": 64,
            "time_step_rank": 256,
            "use_bias": False,
            "use_conv_bias": True,
            "tie_word_embeddings": False,
            "vocab_size": 65024,
            "torch_dtype": "bfloat16",
        },
    )
    assert sizes(spec)[1] == 64 * 8192 * (3 * 2 + 16 * 4)
    assert spec.parameters is not None
    assert spec.parameters.total == 7_272_665_088
