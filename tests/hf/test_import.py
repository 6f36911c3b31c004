"""What an import says beside the caches: provenance, context, dtype, draft layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kvplan.calc import footprint
from kvplan.hf import read_config, to_yaml
from tests.hf.configs import HEADS, LLAMA, MLA, spec_of, write


def test_yaml_names_the_key_of_each_figure(tmp_path: Path) -> None:
    """Figures carry the config's own keys; interleaved layers become the smallest pattern."""
    folder = tmp_path / 'gemma: a "b"'
    folder.mkdir()
    config = {
        "model_type": "gemma2",
        **HEADS,
        "num_hidden_layers": 4,
        "sliding_window": 100,
        "max_position_embeddings": 8192,
        "torch_dtype": "float16",
    }
    spec, provenance = read_config(write(folder, config))
    text = to_yaml(spec, provenance).replace(str(tmp_path), "/models")
    assert (
        text
        == """name: "gemma: a \\"b\\""
source: "config.json of gemma2, /models/gemma: a \\"b\\"/config.json"
native_context_tokens: 8192  # key: max_position_embeddings
dtype: fp16  # key: torch_dtype
not_counted: ["everything: intermediate_size is not in the file"]
layers: 4  # key: num_hidden_layers
pattern: [sliding, full]
groups:
  - name: sliding
    kind: sliding_window
    num_attention_heads: 8  # key: num_attention_heads
    num_key_value_heads: 2  # key: num_key_value_heads
    head_dim: 64  # key: head_dim
    sliding_window: 100  # key: sliding_window
  - name: full
    kind: full_attention
    num_attention_heads: 8  # key: num_attention_heads
    num_key_value_heads: 2  # key: num_key_value_heads
    head_dim: 64  # key: head_dim
"""
    )


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


@pytest.mark.parametrize(
    ("key", "value", "layers"),
    [
        ("num_nextn_predict_layers", 1, 1),
        ("num_nextn_predict_layers", 0, 0),
        ("num_nextn_predict_layers", None, 0),
    ],
)
def test_draft_layers_stay_out_of_the_model(
    tmp_path: Path, key: str, value: int | None, layers: int
) -> None:
    """MTP layers are a draft: not in the layer count, and none where the file says none."""
    config = {"model_type": "deepseek_v3", "num_hidden_layers": 2, **MLA, key: value}
    spec = spec_of(tmp_path, config)
    assert (spec.total_layers, sum(group.layers or 0 for group in spec.draft)) == (2, layers)


@pytest.mark.parametrize(
    ("keys", "tokens"),
    [
        ({"max_position_embeddings": 8192, "model_max_length": 131072}, 131_072),  # Command-R
        ({"max_position_embeddings": 32768, "seq_length": 8192}, 8_192),  # Qwen-7B
        (
            {"max_position_embeddings": 32768, "rope_scaling": {"type": "yarn", "factor": 4.0}},
            32_768,
        ),
        ({"max_position_embeddings": None}, None),
    ],
)
def test_native_context(tmp_path: Path, keys: dict[str, Any], tokens: int | None) -> None:
    """The context that the checkpoint has without being stretched."""
    assert spec_of(tmp_path, {**LLAMA, **keys}).native_context_tokens == tokens


@pytest.mark.parametrize(
    ("keys", "dtype"),
    [
        ({"torch_dtype": "float16"}, "fp16"),
        ({"torch_dtype": None, "dtype": "bfloat16"}, "bf16"),
        ({"torch_dtype": "float32"}, "bf16"),
        ({"torch_dtype": None}, "bf16"),
    ],
)
def test_dtype(tmp_path: Path, keys: dict[str, Any], dtype: str) -> None:
    """fp32 files are served in bf16; a file without a dtype is, too, and every answer says so."""
    spec = spec_of(tmp_path, {**LLAMA, **keys})
    assert spec.dtype == dtype
    assert bool(spec.assumptions) == (
        keys.get("torch_dtype") == "float32" or not any(keys.values())
    )
