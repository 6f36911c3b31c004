"""bitsandbytes, EXL2 and EXL3, groups of compressed-tensors, ModelOpt, Quark; by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.hf.configs import spec_of
from tests.hf.models import changed
from tests.hf.quantization.sections import MATRICES, NF4, llama, stored, why
from tests.hf.weight_configs import EXPERTS, ONE_MATRIX, PARAMETERS, ROUTED


def test_nf4_has_a_scale_for_64_a_table_and_a_text_that_describes_it(tmp_path: Path) -> None:
    """fp32 scales and 16 entries; ``{"quant_type": "nf4", ... "shape": [11008, 4096]}`` is 83 B."""
    mlp = stored(llama(tmp_path, NF4), "dense_mlp")
    text = '{"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [11008, 4096]}'
    assert len(text) == 83
    assert mlp == {
        ("nf4", None): MATRICES * ONE_MATRIX,
        ("fp32", "scales"): MATRICES * (ONE_MATRIX // 64 + 16),
        ("uint8", "scales"): MATRICES * 83,
    }


def test_modules_that_are_skipped_and_the_head_without_a_list(tmp_path: Path) -> None:
    skipped = {**NF4, "llm_int8_skip_modules": ["lm_head", "model.layers.7.mlp"]}
    spec = llama(tmp_path, skipped)
    assert stored(spec, "dense_mlp")["bf16", None] == 3 * ONE_MATRIX
    assert list(stored(spec, "lm_head")) == [("bf16", None)]
    assert list(stored(llama(tmp_path, NF4), "lm_head")) == [("bf16", None)]


@pytest.mark.parametrize(("release", "dtype"), [("4.51.0", "nf4"), ("5.24.0", "bf16")])
def test_experts_are_quantised_up_to_transformers_4(
    tmp_path: Path, release: str, dtype: str
) -> None:
    raw = {**EXPERTS, "quantization_config": NF4, "transformers_version": release}
    assert stored(spec_of(tmp_path, raw), "routed_experts")[dtype, None] == ROUTED


def test_experts_of_an_unknown_release(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, {**EXPERTS, "quantization_config": NF4})
    assert "by the release of transformers" in why(spec)


def test_towers_are_quantised_unless_they_are_skipped(tmp_path: Path) -> None:
    def vision(skipped: list[str] | None) -> set[str]:
        section = {**NF4, "llm_int8_skip_modules": skipped}
        changes = {"quantization_config": section, "transformers_version": "4.51.0"}
        spec = spec_of(tmp_path, changed("google/gemma-3-27b-it", changes))
        return {dtype for dtype, _ in stored(spec, "vision")}

    assert "nf4" in vision(None)
    assert vision(["lm_head", "vision_tower", "multi_modal_projector"]) == {"bf16"}
    assert vision(["lm_head", "vision_tower.layers.9.novel"]) == set()


EXL3: dict[str, Any] = {"quant_method": "exl3", "bits": 4.25, "head_bits": 6}


def test_bits_on_average_are_an_approximation_and_said_to_be(tmp_path: Path) -> None:
    """A quarter of the weights in 5 bits, the others in 4, the head in 6."""
    spec = llama(tmp_path, EXL3)
    mlp = stored(spec, "dense_mlp")
    assert (mlp["int4", None], mlp["int5", None]) == (
        MATRICES * ONE_MATRIX * 3 // 4,
        MATRICES * ONE_MATRIX // 4,
    )
    assert mlp["fp16", "scales"] == MATRICES * (11_008 + 4096)
    assert stored(spec, "lm_head")["int6", None] == 32_000 * 4096
    assert "weights are an approximation: EXL3 mixes whole bits" in spec.assumptions[0]
    assert spec.parameters is not None
    assert spec.parameters.total == PARAMETERS


def test_exl2_has_its_scales_in_its_bits(tmp_path: Path) -> None:
    spec = llama(tmp_path, {**EXL3, "quant_method": "exl2", "bits": 3.0})
    assert stored(spec, "dense_mlp") == {("int3", None): MATRICES * ONE_MATRIX}


def test_a_tied_head_is_stored_once_more_by_exl3(tmp_path: Path) -> None:
    """In 6 bits beside the embedding in 16; it is no parameter of its own."""
    spec = llama(tmp_path, EXL3, tie_word_embeddings=True)
    assert stored(spec, "lm_head")["int6", None] == 32_000 * 4096
    assert stored(spec, "embedding") == {("bf16", None): 32_000 * 4096}
    assert spec.parameters is not None
    assert spec.parameters.total == PARAMETERS - 32_000 * 4096
    exl2 = llama(tmp_path, {**EXL3, "quant_method": "exl2"}, tie_word_embeddings=True)
    assert "tied head" in why(exl2)


INT4 = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128, "symmetric": True}
FLOAT8 = {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True}


def groups(*pairs: tuple[list[str], dict[str, Any], str], ignore: list[str]) -> dict[str, Any]:
    numbered = {
        f"group_{index}": {"targets": targets, "weights": weights, "format": form}
        for index, (targets, weights, form) in enumerate(pairs)
    }
    return {"quant_method": "compressed-tensors", "config_groups": numbered, "ignore": ignore}


def test_a_name_goes_before_a_pattern_and_that_before_the_class(tmp_path: Path) -> None:
    """compressed-tensors 0.20.1 utils/match.py: down_proj of layer 3 in int8, the rest in fp8."""
    section = groups(
        (["Linear"], INT4, "pack-quantized"),
        (["re:.*down_proj$"], FLOAT8, "float-quantized"),
        (["model.layers.3.mlp.down_proj"], {**INT4, "num_bits": 8}, "pack-quantized"),
        ignore=["lm_head", "re:.*up_proj"],
    )
    mlp = stored(llama(tmp_path, section), "dense_mlp")
    assert mlp["int8", None] == ONE_MATRIX
    assert mlp["fp8", None] == 31 * ONE_MATRIX
    assert mlp["int4", None] == mlp["bf16", None] == 32 * ONE_MATRIX


def test_zero_points_and_the_order_of_columns_of_packed_weights(tmp_path: Path) -> None:
    """Packed along the rows: 11,008 and 4,096 of 4 bits fill 1,376 and 512 words a group."""
    weights = {**INT4, "symmetric": False, "actorder": "group"}
    section = groups((["Linear"], weights, "pack-quantized"), ignore=["lm_head"])
    mlp = stored(llama(tmp_path, section), "dense_mlp")
    assert mlp["int32", "zero points"] == 32 * (2 * 32 * 1376 + 86 * 512)
    assert mlp["int32", "order"] == 32 * (2 * 4096 + 11_008)


@pytest.mark.parametrize(
    ("section", "reason"),
    [
        (
            groups((["re:.*novel"], INT4, "pack-quantized"), ignore=[]),
            "'.*novel' fits no module known here",
        ),
        (
            groups(
                (["Linear"], INT4, "pack-quantized"),
                (["Linear", "re:.*up_proj"], FLOAT8, "float-quantized"),
                ignore=[],
            ),
            "two groups target Linear",
        ),
        (
            groups(
                (["Linear"], INT4, "pack-quantized"),
                (["re:.*up_proj"], FLOAT8, "float-quantized"),
                ignore=[],
            ),
            "the list of what is not quantised does not speak of it",
        ),
        ({"quant_method": "modelopt", "quant_algo": "W4A16_AWQ", "ignore": []}, "not counted"),
        ({"quant_method": "torchao", "quant_type": {"default": {"_type": "Novel"}}}, "torchao"),
        ({"quant_method": "torchao", "quant_type": "int4_weight_only"}, "by name"),
        ({"quant_method": "hqq", "quant_config": {}}, "HQQ without weight_quant_params"),
        ({"quant_method": "quark", "global_quant_config": {"weight": {}}}, "Quark's"),
        ({"quant_method": "aqlm", "in_group_size": 8}, "quant_method 'aqlm'"),
        ({"quant_method": "eetq", "modules_to_not_convert": ["mlp"]}, "'mlp' is a part of"),
        ({"quant_method": "eetq", "modules_to_not_convert": ["o_proj"]}, "does not speak of it"),
        ({"quant_method": "fp8", "modules_to_not_convert": ["self_attn"]}, "'self_attn' is a part"),
        ({**NF4, "load_in_4bit": False}, "without load_in_4bit or load_in_8bit"),
        ({**EXL3, "bits": 9.5}, "EXL3 without bits of 1 to 8"),
        ({"quant_method": "exl3", "bits": 4.0}, "EXL3 without head_bits"),
    ],
)
def test_what_the_file_does_not_determine(
    tmp_path: Path, section: dict[str, Any], reason: str
) -> None:
    assert reason in why(llama(tmp_path, section))


QUARK: dict[str, Any] = {
    "quant_method": "quark",
    "global_quant_config": {
        "weight": {"dtype": "fp8_e4m3", "qscheme": "per_tensor", "is_dynamic": False},
        "input_tensors": {"dtype": "fp8_e4m3", "qscheme": "per_tensor", "is_dynamic": False},
    },
    "exclude": ["lm_head"],
}


def test_quark_in_fp8_and_in_fp4(tmp_path: Path) -> None:
    """A scale a matrix and one of its input; an e8m0 scale for 32."""
    assert stored(llama(tmp_path, QUARK), "dense_mlp") == {
        ("fp8", None): MATRICES * ONE_MATRIX,
        ("fp32", "scales"): 2 * MATRICES,
    }
    weight = {"dtype": "fp4", "qscheme": "per_group", "group_size": 32, "scale_format": "e8m0"}
    section = {**QUARK, "global_quant_config": {"weight": weight}}
    assert stored(llama(tmp_path, section), "dense_mlp") == {
        ("fp4", None): MATRICES * ONE_MATRIX,
        ("e8m0", "scales"): MATRICES * ONE_MATRIX // 32,
    }


def test_torchao_in_4_bits(tmp_path: Path) -> None:
    """Int4Tensor: a scale and a zero point of the model's dtype for 128 weights."""
    kind = {"_type": "Int4WeightOnlyConfig", "_version": 2, "_data": {"group_size": 128}}
    section = {"quant_method": "torchao", "quant_type": {"default": kind}}
    groups_of_128 = MATRICES * ONE_MATRIX // 128
    assert stored(llama(tmp_path, section), "dense_mlp") == {
        ("int4", None): MATRICES * ONE_MATRIX,
        ("bf16", "scales"): groups_of_128,
        ("bf16", "zero points"): groups_of_128,
    }


def test_bitnet_that_is_quantised_at_run_time_holds_16_bits(tmp_path: Path) -> None:
    section = {
        "quant_method": "bitnet",
        "linear_class": "autobitlinear",
        "quantization_mode": "online",
    }
    assert llama(tmp_path, section).weights_bytes == 2 * PARAMETERS


V4_GROUPS = {
    "fp8": (
        r"re:.*attn.*(fused_wqa_wkv|wq_b|wo_a|wo_b)$",
        {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [128, 128]},
        "float-quantized",
        {"num_bits": 8, "type": "float", "strategy": "group", "group_size": 128, "dynamic": True},
    ),
    "nvfp4": (
        r"re:.*ffn.*(gate|up|down)_proj$",
        {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16},
        "nvfp4-pack-quantized",
        {"num_bits": 4, "type": "float", "strategy": "tensor_group", "dynamic": "local"},
    ),
}


def test_patterns_of_vllm_s_names_reach_deepseek_v4_s_experts(tmp_path: Path) -> None:
    """43 layers × 256 experts × 3 of 2,048 × 4,096: half a byte, a scale for 16, two fp32 each."""
    groups = {
        name: {"targets": [target], "weights": weights, "format": layout, "input_activations": acts}
        for name, (target, weights, layout, acts) in V4_GROUPS.items()
    }
    section = {
        "quant_method": "compressed-tensors",
        "quantization_status": "compressed",
        "format": "mixed-precision",
        "config_groups": groups,
        "ignore": [],
    }
    config = changed("deepseek-ai/DeepSeek-V4-Flash", {"quantization_config": None})
    spec = spec_of(tmp_path, {**config, "quantization_config": section})
    elements = 43 * 256 * 3 * 2_048 * 4_096
    assert stored(spec, "routed_experts") == {
        ("fp4", None): elements,
        ("fp8", "scales"): elements // 16,
        ("fp32", "scales"): 43 * 256 * 3 * 2,
    }
    down = stored(spec, "attention_down")
    assert down["fp8", None] == 43 * (1_024 + 512) * 4_096
