"""Tiny models that each packer stored itself: their bytes, and kvplan's from config.json alone.

A line of packed_checkpoints.jsonl has the keys that the packer wrote, the bytes of all tensors that
it stored, and which packer and release that was.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.hf.configs import spec_of

_LINES = (Path(__file__).parent / "packed_checkpoints.jsonl").read_text(encoding="utf-8")
PACKED: dict[str, dict[str, Any]] = {
    line["name"]: line for line in map(json.loads, _LINES.splitlines())
}
_SIZES = {
    "vocab_size": 1000,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "tie_word_embeddings": False,
    "dtype": "bfloat16",
}
BASES: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", **_SIZES},
    "qwen3_moe": {
        "model_type": "qwen3_moe",
        **_SIZES,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 128,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    },
}
_FEWER = re.compile(r"up to ([\d,]+) bytes too high")
# Names of numbers' lengths, of scales' dtypes and of routers that the file leaves open.
_MOST_OPEN = 0.006


@pytest.mark.parametrize("name", PACKED)
def test_a_stored_checkpoint_has_the_bytes_that_its_config_means(tmp_path: Path, name: str) -> None:
    line = PACKED[name]
    if "hf_quant_config" in line:
        text = json.dumps(line["hf_quant_config"])
        (tmp_path / "hf_quant_config.json").write_text(text, encoding="utf-8")
    spec = spec_of(tmp_path, {**BASES[line["model"]], **line["keys"]})
    assert spec.weights_bytes is not None
    open_bytes = _FEWER.search(" ".join(spec.assumptions))
    if open_bytes is None:
        assert spec.weights_bytes == line["bytes"]
    else:
        fewer = int(open_bytes[1].replace(",", ""))
        assert spec.weights_bytes - fewer <= line["bytes"] <= spec.weights_bytes
        assert fewer <= _MOST_OPEN * line["bytes"]


@pytest.mark.parametrize("name", PACKED)
def test_parameters_are_those_of_the_model(tmp_path: Path, name: str) -> None:
    """Whatever is stored: 2 x 1,000 x 256, two layers, and for the experts 3 matrices of each."""
    line = PACKED[name]
    spec = spec_of(tmp_path, {**BASES[line["model"]], **line["keys"]})
    attention = 2 * 256 * 256 + 2 * 128 * 256
    rest = 2 * 1000 * 256 + 256 + 2 * (attention + 2 * 256)
    llama = rest + 2 * 3 * 256 * 512
    experts = rest + 2 * (8 * 3 * 128 * 256 + 8 * 256 + 2 * 64)
    assert spec.parameters is not None
    assert spec.parameters.total == (llama if line["model"] == "llama" else experts)
