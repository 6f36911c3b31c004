"""What an import writes: a spec file with the key of each figure."""

from __future__ import annotations

from pathlib import Path

from kvplan.hf import read_config, to_yaml
from tests.hf.configs import HEADS, write


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
source: "gemma2 in /models/gemma: a \\"b\\"/config.json"
# attention_bias is not in the file: false, the default of Gemma2Config (transformers 5.24.0)
# layer_types is not in the file: "2 sliding_attention, 2 full_attention", the default of \
Gemma2Config (transformers 5.24.0)
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
