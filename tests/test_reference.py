"""Figures against the collected reference, where it lies beside the checkout."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import kvplan
from kvplan.errors import UsageError

REFERENCE = Path(__file__).parents[2] / "shared" / "reference"
pytestmark = pytest.mark.skipif(not REFERENCE.is_dir(), reason="no reference beside the checkout")

# Files of the reference whose figures are not the model's: patches of 14 where it has 16, in a
# projection of 3 channels x 2 frames to 1,152.
SLIPS = {"Qwen__Qwen3-VL-235B-A22B-Thinking": 6 * 1152 * (16**2 - 14**2)}

WHISPER = "openai__whisper-large-v3"

INDEX_KEY_BYTES = Fraction(132, 256)  # engines keep fp8 and a scale where the file counts bf16


def table(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((REFERENCE / name).read_text())
    return found


def catalogued(folder: str) -> kvplan.ModelSpec | None:
    """The catalogue's model of this Hugging Face id, which the reference writes with ``__``."""
    try:
        return kvplan.load(folder.replace("__", "/", 1))
    except UsageError:
        return None


def test_every_shared_model_is_right_to_the_byte() -> None:
    shared = 0
    for folder, row in table("kv-arithmetic.json").items():
        spec = catalogued(folder)
        if spec is None:
            continue
        shared += 1
        result = kvplan.footprint(spec, 131_072, kv_cache_dtype="bf16")
        index = Fraction(row["idx_per_tok"])
        if "MiniMax-M3" not in folder:
            index *= INDEX_KEY_BYTES
        assert result.bytes_per_token == Fraction(row["per_tok"]) + index, folder
        fixed = row["win_cap"] + row["state_bytes_recfp32"]
        assert result.fixed_bytes_per_sequence == fixed, folder
        assert result.cross_attention_bytes_per_sequence == row["cross"], folder
    assert shared >= 120


def test_parameter_counts_are_exact() -> None:
    shared = 0
    for folder, row in table("param-counts.json").items():
        spec = catalogued(folder)
        if spec is None or spec.parameters is None:
            continue
        shared += 1
        total = row["total"] + SLIPS.get(folder, 0)
        language = row.get("language_total", row["total"])
        if language != row["total"] or folder == WHISPER:
            assert spec.parameters.total == total, folder
        if folder != WHISPER:  # its encoder is not told apart
            assert spec.parameters.of_language == language, folder
            active = row.get("active_incl_embeddings") or language
            assert spec.parameters.active in (active, None), folder
    assert shared >= 110


def test_one_rank_of_vllm_grows_by_as_much() -> None:
    """The sum over layers of vLLM 0.33.0 itself, for models of full attention."""
    shared = 0
    for line in (REFERENCE / "vllm-0.33.0.jsonl").read_text().splitlines():
        run = json.loads(line)
        spec = catalogued(str(run["model"]))
        if run["status"] != "ok" or spec is None or "hybrid" in str(run["groups"]):
            continue
        request = run["request"]
        kinds = {layer["kind"] for layer in run["layer_kinds"]}
        plain = {line.kind.kind for line in kvplan.footprint(spec, 1).lines} == {"full_attention"}
        if kinds != {"full_attention"} or not plain or request["pp"] > 1 or request["dcp"] > 1:
            continue
        shared += 1
        result = kvplan.footprint(spec, 1_000, 1, run["resolved"]["cache_dtype"], request["tp"])
        expected = sum(
            layer["bytes_per_token_per_layer"] * layer["num_layers"] for layer in run["layer_kinds"]
        )
        assert result.bytes_per_token == expected, (run["model"], request)
    assert shared >= 100
