"""What quantization_config means for the stored bytes; expected figures are by hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.hf.configs import refusal, spec_of
from tests.hf.models import changed
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


@pytest.mark.parametrize("method", ["spqr", "bitsandbytes", "higgs", "something"])
def test_a_quantisation_of_unknown_layout_leaves_parameters_and_no_bytes(
    tmp_path: Path, method: str
) -> None:
    spec = spec_of(tmp_path, quantized(LLAMA, quant_method=method, bits=4))
    assert spec.parameters is not None
    assert spec.parameters.total == PARAMETERS
    assert spec.weights_bytes is None
    assert method in " ".join(spec.assumptions)


def test_int4_pack_has_scales_and_a_shape_for_each_expert_matrix(tmp_path: Path) -> None:
    """compressed-tensors 0.20.1: bf16 scale for 32 and two int64 a matrix."""
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
    expected = [("int4", ROUTED), ("bf16", ROUTED // 32), ("int64", 2 * 2 * 8 * 3)]
    assert Counter(rows(spec, "routed_experts")) == Counter(expected)
    assert [dtype for dtype, _ in rows(spec, "attention")] == ["bf16"]


def compressed(group: dict[str, Any], **section: Any) -> dict[str, Any]:
    groups = {"group_0": {"targets": ["Linear"], **group}}
    head = {"quant_method": "compressed-tensors", "ignore": ["lm_head"]}
    return {**head, "config_groups": groups, **section}


FLOAT8 = {"num_bits": 8, "type": "float"}
INT4 = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128}
MIXED = {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}
MATRICES = 32 * 3
# The rows of an MLP whose matrices are all quantised: gate and up 11,008 x 4,096, down the reverse.
STORED: list[tuple[dict[str, Any], list[tuple[str, int]]]] = [
    # block scales: 86 x 32 for each matrix, in bf16 or fp32: the larger is taken
    (
        compressed(
            {"weights": {**FLOAT8, "strategy": "block", "block_structure": [128, 128]}},
            format="float-quantized",
        ),
        [("fp32", MATRICES * 86 * 32)],
    ),
    # a scale a row: 11,008 twice and 4,096 once
    (
        compressed({"weights": {**FLOAT8, "strategy": "channel"}}, format="float-quantized"),
        [("fp32", 32 * (2 * 11_008 + 4096))],
    ),
    # a scale a matrix
    (
        compressed({"weights": {**FLOAT8, "strategy": "tensor"}, "format": "float-quantized"}),
        [("fp32", MATRICES)],
    ),
    (
        compressed(
            {
                "weights": {**FLOAT8, "strategy": "tensor"},
                "input_activations": {**FLOAT8, "dynamic": True},
            },
            format="float-quantized",
        ),
        [("fp32", MATRICES)],
    ),
    # 16 under an fp8 scale, and a global one
    (
        compressed(
            {"weights": {"num_bits": 4, "type": "float", "group_size": 16}},
            format="nvfp4-pack-quantized",
        ),
        [("fp8", MATRICES * ONE_MATRIX // 16), ("fp32", MATRICES)],
    ),
    ({"quant_method": "fp8", "activation_scheme": "static"}, [("fp32", 2 * MATRICES)]),
    ({"quant_method": "fp8", "activation_scheme": "dynamic"}, [("fp32", MATRICES)]),
    # weights alone: 16 under a scale and a global one; an input scale beside it with NVFP4
    (
        {"quant_algo": "W4A16_NVFP4", "exclude_modules": ["lm_head"]},
        [("fp8", MATRICES * ONE_MATRIX // 16), ("fp32", MATRICES)],
    ),
    (
        {"quant_algo": "NVFP4", "exclude_modules": ["lm_head"]},
        [("fp8", MATRICES * ONE_MATRIX // 16), ("fp32", 2 * MATRICES)],
    ),
    ({"quant_algo": "FP8", "ignore": ["lm_head"]}, [("fp32", 2 * MATRICES)]),
]


@pytest.mark.parametrize(("section", "scales"), STORED)
def test_scales_of_an_mlp(
    tmp_path: Path, section: dict[str, Any], scales: list[tuple[str, int]]
) -> None:
    spec = spec_of(tmp_path, quantized(LLAMA, **section))
    stored = [(row.dtype, row.elements) for row in spec.weights if row.part == "dense_mlp"]
    weights, *beside = sorted(stored, key=lambda row: -row[1])
    assert weights in {("fp8", MATRICES * ONE_MATRIX), ("fp4", MATRICES * ONE_MATRIX)}
    assert beside == scales


def test_a_list_of_what_is_quantised_and_how(tmp_path: Path) -> None:
    """One matrix in fp8, one in NVFP4, the others as they were."""
    names = [f"model.layers.3.mlp.{name}_proj" for name in ("gate", "up")]
    layers = {names[0]: {"quant_algo": "FP8"}, names[1]: {"quant_algo": "NVFP4"}}
    spec = spec_of(tmp_path, quantized(LLAMA, **MIXED, quantized_layers=layers))
    assert Counter(rows(spec, "dense_mlp")) == Counter(
        [
            ("bf16", (MATRICES - 2) * ONE_MATRIX),
            ("fp8", ONE_MATRIX),
            ("fp4", ONE_MATRIX),
            ("fp8", ONE_MATRIX // 16),
            ("fp32", 4),
        ]
    )


GROUP = {"weights": INT4}
UNKNOWN: list[tuple[dict[str, Any], str]] = [
    ({"quant_method": "mxfp4"}, "mxfp4 is known for gpt-oss alone"),
    ({"quant_method": "compressed-tensors"}, "config_groups has no groups"),
    (
        compressed({"targets": ["LlamaMLP"], **GROUP}, format="pack-quantized"),
        "'LlamaMLP' is not a module known here",
    ),
    (compressed({"targets": [], **GROUP}), "names no targets"),
    (compressed(GROUP, quantization_status="frozen"), "quantization_status is 'frozen'"),
    (
        compressed(GROUP, sparsity_config={"format": "sparse-24-bitmask"}),
        "sparsity_config or transform_config",
    ),
    (compressed(GROUP, format="marlin-24"), "compressed-tensors format 'marlin-24': not counted"),
    (compressed({}, format="pack-quantized"), "format 'pack-quantized': not counted"),
    (
        compressed({"weights": {**INT4, "actorder": "novel"}}, format="pack-quantized"),
        "format 'pack-quantized': not counted",
    ),
    (
        compressed({"weights": {**INT4, "group_size": 3000}}, format="pack-quantized"),
        "4096 columns are not a multiple of 3000",
    ),
    (
        compressed({"weights": {**FLOAT8, "strategy": "block"}}, format="float-quantized"),
        "format 'float-quantized': not counted",
    ),
    (
        compressed({"weights": {**FLOAT8, "strategy": "novel"}}, format="float-quantized"),
        "format 'float-quantized': not counted",
    ),
    (
        compressed(
            {
                "weights": {**FLOAT8, "strategy": "channel"},
                "input_activations": {**FLOAT8, "strategy": "group"},
            },
            format="float-quantized",
        ),
        "format 'float-quantized': not counted",
    ),
    (
        compressed(
            {"weights": {**FLOAT8, "strategy": "channel"}}, format="float-quantized", ignore=[]
        ),
        "the list of what is not quantised does not speak of it",
    ),
    ({"quant_algo": "INT3"}, "quant_algo 'INT3' is not counted"),
    ({"quant_method": "modelopt"}, "quant_algo '' is not counted"),
    ({"quant_algo": "FP8"}, "quant_algo FP8, and no list of what is left out"),
    (
        {"quant_algo": "NVFP4", "ignore": [], "group_size": 32},
        "group_size is 32, and NVFP4 has another",
    ),
    (MIXED, "MIXED_PRECISION without quantized_layers"),
    ({**MIXED, "quantized_layers": {"model.layers.0.ffn": {"quant_algo": "FP8"}}}, "not known"),
    ({**MIXED, "quantized_layers": {"lm_head": {"quant_algo": "INT3"}}}, "has 'INT3' for 'lm_head"),
    ({**MIXED, "quantized_layers": {"lm_head": "FP8"}}, "has null for 'lm_head'"),
    ({**FP8, "modules_to_not_convert": ["re:["]}, "quantization_config: '[' is not a pattern"),
]


@pytest.mark.parametrize(("section", "reason"), UNKNOWN)
def test_a_scheme_that_is_not_known_leaves_no_bytes(
    tmp_path: Path, section: dict[str, Any], reason: str
) -> None:
    spec = spec_of(tmp_path, quantized(LLAMA, **section))
    assert spec.weights == ()
    assert reason in " ".join(spec.assumptions)
    assert spec.parameters is not None
    assert spec.parameters.total == PARAMETERS


@pytest.mark.parametrize("blocks", [[128], [0, 128], [128, 1 << 17]])
def test_blocks_that_cannot_be(tmp_path: Path, blocks: list[int]) -> None:
    section = {"quant_method": "fp8", "weight_block_size": blocks}
    assert "weight_block_size has to be two numbers" in refusal(
        tmp_path, quantized(LLAMA, **section)
    )


def test_a_list_of_more_layers_than_there_can_be(tmp_path: Path) -> None:
    layers = {f"x.{index}": {"quant_algo": "FP8"} for index in range(40_001)}
    config = quantized(LLAMA, **MIXED, quantized_layers=layers)
    assert "quantized_layers is too long" in refusal(tmp_path, config)


def test_a_tower_that_the_list_does_not_speak_of_has_unknown_bytes(tmp_path: Path) -> None:
    """Inside text_config the same scheme leaves it alone."""
    section = {"quantization_config": FP8}
    outer = spec_of(tmp_path, changed("google/gemma-3-27b-it", section))
    assert "does not speak of it" in " ".join(outer.assumptions)
    inner = spec_of(tmp_path, changed("google/gemma-3-27b-it", {"text_config": section}))
    listed = {"text_config": {"quantization_config": {**MIXED, "quantized_layers": {}}}}
    mixed = spec_of(tmp_path, changed("google/gemma-3-27b-it", listed))
    assert {row.dtype for row in mixed.weights} == {"bf16"}
    assert {row.dtype for row in inner.weights if row.part == "vision"} == {"bf16"}


@pytest.mark.parametrize(
    ("model", "changes", "reason"),
    [
        ("deepseek-ai/DeepSeek-V4-Pro", {"expert_dtype": "fp3"}, "expert_dtype 'fp3' is not known"),
        (
            "nvidia/DeepSeek-V4-Pro-NVFP4",
            {
                "quantization_config": {
                    "quant_algo": "NVFP4",
                    "quantized_layers": None,
                    "ignore": [],
                }
            },
            "without the list of layers that this family's files have",
        ),
        (
            "XiaomiMiMo/MiMo-V2-Flash",
            {"quantization_config": {"ignored_layers": None, "modules_to_not_convert": None}},
            "name modules that stay in 16 bits, this one none",
        ),
    ],
)
def test_what_only_published_files_of_a_family_do(
    tmp_path: Path, model: str, changes: dict[str, Any], reason: str
) -> None:
    spec = spec_of(tmp_path, changed(model, changes))
    assert spec.weights == ()
    assert reason in " ".join(spec.assumptions)
