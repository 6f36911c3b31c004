"""Mistral's own params.json: figures by hand and the published sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import kvplan
from kvplan.errors import KvplanError, RefusedError

SEVEN: dict[str, Any] = {
    "dim": 4096,
    "n_layers": 32,
    "head_dim": 128,
    "hidden_dim": 14336,
    "n_heads": 32,
    "n_kv_heads": 8,
    "norm_eps": 1e-05,
    "sliding_window": 4096,
    "vocab_size": 32000,
}
"""mistralai/Mistral-7B-v0.1: 7,241,732,096 parameters (huggingface.co), 131,072 B an entry."""
EIGHT = {
    **{key: value for key, value in SEVEN.items() if key != "sliding_window"},
    "moe": {"num_experts_per_tok": 2, "num_experts": 8},
}
"""mistralai/Mixtral-8x7B-v0.1: 46,702,792,704 parameters (huggingface.co)."""
ENTRY_BYTES = 32 * 2 * 8 * 128 * 2


def spec_of(folder: Path, raw: dict[str, Any]) -> kvplan.ModelSpec:
    (folder / "params.json").write_text(json.dumps(raw))
    return kvplan.load(folder)


@pytest.mark.parametrize(
    ("raw", "bytes_per_token", "fixed_bytes", "total"),
    [
        (SEVEN, 0, 4096 * ENTRY_BYTES, 7_241_732_096),
        (EIGHT, ENTRY_BYTES, 0, 46_702_792_704),
        (
            {**SEVEN, "sliding_window": [None, 1024, 1024, 1024]},
            ENTRY_BYTES // 4,
            1024 * ENTRY_BYTES * 3 // 4,
            7_241_732_096,
        ),
        (
            {**SEVEN, "tied_embeddings": True},
            0,
            4096 * ENTRY_BYTES,
            7_241_732_096 - 32_000 * 4096,
        ),
    ],
    ids=["dense", "experts", "windows", "tied"],
)
def test_caches_and_parameters(
    tmp_path: Path, raw: dict[str, Any], bytes_per_token: int, fixed_bytes: int, total: int
) -> None:
    spec = spec_of(tmp_path, raw)
    result = kvplan.footprint(spec, 131_072)
    assert result.bytes_per_token == bytes_per_token
    assert result.fixed_bytes_per_sequence == fixed_bytes
    assert spec.parameters is not None
    assert spec.parameters.total == total
    assert spec.name == tmp_path.name


def test_a_tower_and_shared_experts_are_said_to_be_missing(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, {**SEVEN, "vision_encoder": {"hidden_size": 1024}})
    assert any("vision tower" in part for part in spec.not_counted)
    moe = {**EIGHT["moe"], "num_shared_experts": 1}
    assert "num_shared_experts" in spec_of(tmp_path, {**EIGHT, "moe": moe}).not_counted[0]


@pytest.mark.parametrize(
    "change",
    [
        {"n_kv_heads": None},
        {"kv_lora_rank": 512},
        {"sliding_window": [4096, None, None]},
        {"sliding_window": "4096"},
        {"n_layers": "32"},
    ],
)
def test_what_is_not_understood_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(KvplanError):
        spec_of(tmp_path, {**SEVEN, **change})


def test_a_config_json_goes_before_it(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "nobody"}')
    with pytest.raises(RefusedError, match="nobody"):
        spec_of(tmp_path, SEVEN)


def test_a_gguf_file_is_called_one(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF\x03\x00\x00\x00\xff")
    with pytest.raises(KvplanError, match="GGUF"):
        kvplan.load(path)
