"""Sections that tests of quantisation share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kvplan.spec import ModelSpec
from tests.hf.configs import spec_of
from tests.hf.weight_configs import LLAMA

GPTQ: dict[str, Any] = {
    "quant_method": "gptq",
    "bits": 4,
    "group_size": 128,
    "desc_act": False,
    "sym": True,
    "meta": {"quantizer": ["gptqmodel:4.0.0"]},
}
AWQ: dict[str, Any] = {
    "quant_method": "awq",
    "bits": 4,
    "group_size": 128,
    "version": "gemm",
    "zero_point": True,
}
NF4: dict[str, Any] = {
    "quant_method": "bitsandbytes",
    "load_in_4bit": True,
    "load_in_8bit": False,
    "bnb_4bit_quant_type": "nf4",
}
MATRICES = 32 * 3
"""Matrices of the MLPs of weight_configs.LLAMA."""


def llama(folder: Path, section: dict[str, Any], **more: Any) -> ModelSpec:
    return spec_of(folder, {**LLAMA, **more, "quantization_config": section})


def stored(spec: ModelSpec, part: str) -> dict[tuple[str, str | None], int]:
    """Elements of a part by dtype and what they are."""
    return {(row.dtype, row.what): row.elements for row in spec.weights if row.part == part}


def why(spec: ModelSpec) -> str:
    """Why the bytes are not known; there are none."""
    assert spec.weights == ()
    return " ".join(spec.assumptions)
