"""What quantization_config means for the stored bytes; expected figures are by hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.hf.configs import spec_of
from tests.hf.weight_configs import EXPERTS, LLAMA, ONE_MATRIX, PARAMETERS, ROUTED, rows

FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}


def quantized(raw: dict[str, Any], **section: Any) -> dict[str, Any]:
    return {**raw, "quantization_config": section}


def test_fp8_blocks_have_one_scale_for_each_started_block(tmp_path: Path) -> None:
    """11,008 rows are 86 blocks, 32,000 stay out: the head is not converted."""
    spec = spec_of(tmp_path, quantized(LLAMA, **FP8))
    assert rows(spec, "dense_mlp") == [("fp8", 32 * 3 * ONE_MATRIX), ("fp32", 32 * 3 * 86 * 32)]
    assert rows(spec, "lm_head") == [("bf16", 32_000 * 4096)]


@pytest.mark.parametrize(
    ("name", "matrices"),
    [
        ("model.layers.7.mlp.gate_proj", 1),
        ("model.layers.7.mlp", 3),
        ("re:.*gate_proj", 32),
    ],
)
def test_modules_that_are_not_converted_stay_by_name(
    tmp_path: Path, name: str, matrices: int
) -> None:
    spec = spec_of(tmp_path, quantized(LLAMA, **FP8, modules_to_not_convert=["lm_head", name]))
    assert ("bf16", matrices * ONE_MATRIX) in rows(spec, "dense_mlp")
    assert ("fp8", (32 * 3 - matrices) * ONE_MATRIX) in rows(spec, "dense_mlp")


def test_a_wildcard_after_a_number_means_every_layer_that_it_fits(tmp_path: Path) -> None:
    """``layers.1*`` is layer 1 and 10 to 19: eleven of 32."""
    section = {"quant_method": "modelopt", "quant_algo": "NVFP4"}
    spec = spec_of(tmp_path, quantized(LLAMA, **section, ignore=["lm_head", "model.layers.1*"]))
    assert ("bf16", 11 * 3 * ONE_MATRIX) in rows(spec, "dense_mlp")


def test_a_listed_module_that_does_not_exist_makes_the_bytes_unknown(tmp_path: Path) -> None:
    """Another spelling would be missed in silence."""
    names = ["lm_head", "model.layers.3.ffn.gate_proj"]
    section = {"quant_method": "modelopt", "quant_algo": "FP8", "ignore": names}
    spec = spec_of(tmp_path, quantized(LLAMA, **section))
    assert spec.weights == ()
    assert "model.layers.3.ffn.gate_proj" in " ".join(spec.assumptions)
    assert spec.parameters is not None


@pytest.mark.parametrize("method", ["gptq", "bitsandbytes", "awq", "something"])
def test_a_quantisation_of_unknown_layout_leaves_parameters_and_no_bytes(
    tmp_path: Path, method: str
) -> None:
    spec = spec_of(tmp_path, quantized(LLAMA, quant_method=method, bits=4))
    assert spec.parameters is not None
    assert spec.parameters.total == PARAMETERS
    assert spec.weights_bytes is None
    assert method in " ".join(spec.assumptions)


def test_int4_pack_has_scales_and_a_shape_for_each_expert_matrix(tmp_path: Path) -> None:
    """compressed-tensors: bf16 scale for 32 and two int32 a matrix."""
    weights = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32}
    group = {
        "targets": ["Linear"],
        "input_activations": None,
        "weights": {**weights, "symmetric": True},
    }
    spec = spec_of(
        tmp_path,
        quantized(
            EXPERTS,
            quant_method="compressed-tensors",
            format="pack-quantized",
            config_groups={"group_0": group},
            ignore=["lm_head", "re:.*self_attn.*"],
        ),
    )
    expected = [("int4", ROUTED), ("bf16", ROUTED // 32), ("int32", 2 * 2 * 8 * 3)]
    assert Counter(rows(spec, "routed_experts")) == Counter(expected)
    assert [dtype for dtype, _ in rows(spec, "attention")] == ["bf16"]
