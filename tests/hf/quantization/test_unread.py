"""A key about quantisation that nothing reads does not count as absent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.hf.configs import spec_of
from tests.hf.models import changed
from tests.hf.quantization.sections import AWQ, GPTQ, why
from tests.hf.weight_configs import LLAMA, PARAMETERS


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("quant_config", {"w_bit": 4}),
        ("quantize_config", {"bits": 4}),
        ("quantization", "awq"),
        ("quantization_bit", 4),
        ("bits", 4),
        ("w_bit", 4),
        ("q_group_size", 128),
        ("weight_bits", 4),
        ("exl2", {"bpw": 4.0}),
        ("exl3_config", {"bits": 4.0}),
        ("bpw", 4.65),
        ("load_in_4bit", True),
        ("gptq", True),
        ("is_quantized", True),
        ("sparsity_config", {"format": "dense"}),
    ],
)
def test_it_leaves_the_bytes_unknown_and_is_named(tmp_path: Path, key: str, value: Any) -> None:
    spec = spec_of(tmp_path, {**LLAMA, key: value})
    assert key in why(spec)
    assert "what that does to the weights is not known" in why(spec)
    assert spec.parameters is not None
    assert spec.parameters.total == PARAMETERS


@pytest.mark.parametrize(
    ("key", "value"),
    [("quantization_config", None), ("quantization", {}), ("load_in_8bit", False), ("bits", 0)],
)
def test_it_may_be_empty(tmp_path: Path, key: str, value: Any) -> None:
    assert spec_of(tmp_path, {**LLAMA, key: value}).weights_bytes == 2 * PARAMETERS


def test_it_is_seen_in_the_text_part_and_in_sections_beside_it(tmp_path: Path) -> None:
    inner = changed("google/gemma-3-27b-it", {"text_config": {"w_bit": 4}})
    assert "text_config.w_bit is 4" in why(spec_of(tmp_path, inner))
    beside = changed("google/gemma-3-27b-it", {"vision_config": {"quantization_config": AWQ}})
    assert "vision_config.quantization_config" in why(spec_of(tmp_path, beside))


def test_sections_that_differ(tmp_path: Path) -> None:
    levels = {"quantization_config": AWQ, "text_config": {"quantization_config": GPTQ}}
    spec = spec_of(tmp_path, changed("google/gemma-3-27b-it", levels))
    assert "quantization_config and text_config.quantization_config differ" in why(spec)
    two = {**LLAMA, "quantization_config": AWQ, "compression_config": GPTQ}
    assert "quantization_config and compression_config differ" in why(spec_of(tmp_path, two))


@pytest.mark.parametrize(
    ("section", "key"),
    [
        (GPTQ, "expert_bits"),
        (AWQ, "layer_config"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "skip_layers"),
    ],
)
def test_it_is_seen_within_the_section(tmp_path: Path, section: dict[str, Any], key: str) -> None:
    spec = spec_of(tmp_path, {**LLAMA, "quantization_config": {**section, key: 8}})
    assert f"quantization_config.{key} is 8, and nothing here reads it" in why(spec)
