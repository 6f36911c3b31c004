"""The KV dtype that a checkpoint names itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kvplan.errors import RefusedError
from tests.hf.configs import LLAMA, refusal, spec_of

FP8_GROUP = {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False}


@pytest.mark.parametrize(
    ("quantization", "scheme"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, None),
        ({"quant_method": "mxfp4"}, None),
        ({"quant_method": "compressed-tensors", "kv_cache_scheme": FP8_GROUP}, "fp8"),
        ({"quant_method": "compressed-tensors", "kv_cache_scheme": None}, None),
        ({"quant_method": "modelopt", "kv_cache_quant_algo": "FP8"}, "fp8"),
        ({"quant_method": "modelopt", "quantization": {"kv_cache_quant_algo": "NVFP4"}}, "nvfp4"),
        (
            {
                "quant_method": "quark",
                "export": {"kv_cache_group": ["*k_proj"]},
                "layer_quant_config": {"*k_proj": {"output_tensors": {"dtype": "fp8_e4m3"}}},
            },
            "fp8",
        ),
    ],
)
def test_kv_cache_scheme(tmp_path: Path, quantization: dict[str, Any], scheme: str | None) -> None:
    """Only a KV scheme makes the cache small; how weights are stored never does."""
    spec = spec_of(tmp_path, {**LLAMA, "quantization_config": quantization})
    assert spec.kv_cache_dtype == scheme


def test_modelopt_file_beside_the_config(tmp_path: Path) -> None:
    """hf_quant_config.json is read as well, and may not contradict the config."""
    beside = {"quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8"}}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(beside), encoding="utf-8")
    assert spec_of(tmp_path, LLAMA).kv_cache_dtype == "fp8"
    with pytest.raises(RefusedError, match="nvfp4"):
        spec_of(tmp_path, {**LLAMA, "quantization_config": {"kv_cache_quant_algo": "NVFP4"}})


@pytest.mark.parametrize("key", ["quantization_config", "compression_config", "quantization"])
def test_every_section_about_quantisation_is_looked_at(tmp_path: Path, key: str) -> None:
    section = {"quant_algo": "FP8", "exclude_modules": [], "kv_cache_quant_algo": "FP8"}
    assert spec_of(tmp_path, {**LLAMA, key: section}).kv_cache_dtype == "fp8"


def test_a_method_that_stands_by_its_name_says_nothing_of_the_cache(tmp_path: Path) -> None:
    assert spec_of(tmp_path, {**LLAMA, "quantization": "awq"}).kv_cache_dtype is None


QUARK = {"quant_method": "quark", "export": {"kv_cache_group": ["*k_proj"]}}


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"kv_cache_scheme": {"num_bits": 8, "type": "int"}}, "8 bits of 'int'"),
        ({"kv_cache_scheme": {**FP8_GROUP, "strategy": "token"}}, "a scale for each 'token'"),
        ({"kv_cache_quant_algo": "INT3"}, "INT3"),
        ({"kv_cache_bits": 2}, "kv_cache_bits"),
        ({**QUARK, "layer_quant_config": {}}, "not fp8_e4m3"),
    ],
)
def test_a_cache_without_a_format_is_refused(
    tmp_path: Path, section: dict[str, Any], message: str
) -> None:
    assert message in refusal(tmp_path, {**LLAMA, "quantization_config": section})


@pytest.mark.parametrize(
    "section",
    [
        {"kv_cache_quant_algo": "none"},
        {"kv_cache_bits": None},
        {"quant_method": "quark", "export": {"kv_cache_group": []}},
    ],
)
def test_a_cache_that_is_not_quantised(tmp_path: Path, section: dict[str, Any]) -> None:
    spec = spec_of(tmp_path, {**LLAMA, "quantization_config": section})
    assert spec.kv_cache_dtype is None
