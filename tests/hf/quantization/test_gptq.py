"""GPTQ, AWQ and AutoRound by hand: gate and up are 11,008 x 4,096, down is the reverse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kvplan import hf
from tests.hf.configs import spec_of, write
from tests.hf.models import changed
from tests.hf.quantization.sections import AWQ, GPTQ, MATRICES, llama, stored, why
from tests.hf.weight_configs import EXPERTS, LLAMA, ONE_MATRIX, PARAMETERS, ROUTED


def test_gptq_has_scales_zero_points_and_the_group_of_each_column(tmp_path: Path) -> None:
    """A scale and a 4-bit zero point for 128 weights, an int32 a column: 4,096 twice, 11,008."""
    spec = llama(tmp_path, GPTQ)
    assert stored(spec, "dense_mlp") == {
        ("int4", None): MATRICES * ONE_MATRIX,
        ("fp16", "scales"): MATRICES * ONE_MATRIX // 128,
        ("int32", "zero points"): MATRICES * ONE_MATRIX // 128 // 8,
        ("int32", "order"): 32 * (2 * 4096 + 11_008),
    }
    assert stored(spec, "lm_head") == stored(spec, "embedding") == {("bf16", None): 32_000 * 4096}
    assert spec.parameters is not None
    assert spec.parameters.total == PARAMETERS
    assert spec.assumptions == ()


def test_a_file_that_no_gptqmodel_wrote_may_have_biases_of_zeros(tmp_path: Path) -> None:
    """AutoGPTQ before 0.8 stored one for each row: 2 x 11,008 and 4,096 in fp16 for an MLP.

    Qwen2.5's files have them (QwenLM/Qwen3#714 lists mlp.down_proj.bias and others).
    """
    section = {key: value for key, value in GPTQ.items() if key != "meta"}
    older, exact = llama(tmp_path, section), llama(tmp_path, GPTQ)
    mlp, attention = 2 * 11_008 + 4096, 2 * 4096 + 2 * 1024
    assert older.weights_bytes is not None
    assert exact.weights_bytes is not None
    assert older.weights_bytes - exact.weights_bytes == 32 * 2 * (mlp + attention)
    assert "2,326,528 bytes too high" in older.assumptions[0]
    assert older.parameters == exact.parameters


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_gptq_of_other_widths(tmp_path: Path, bits: int) -> None:
    """32 weights of 3 bits fill three words; 11,008 zero points of 3 bits fill 1,032 words."""
    spec = llama(tmp_path, {**GPTQ, "bits": bits})
    mlp = stored(spec, "dense_mlp")
    assert mlp[f"int{bits}", None] == MATRICES * ONE_MATRIX
    words = 32 * (2 * 32 * 11_008 + 86 * 4096) * bits // 32
    assert mlp["int32", "zero points"] == words


def test_one_group_of_all_columns(tmp_path: Path) -> None:
    """A scale a row: 11,008 twice and 4,096."""
    spec = llama(tmp_path, {**GPTQ, "group_size": -1})
    assert stored(spec, "dense_mlp")["fp16", "scales"] == 32 * (2 * 11_008 + 4096)


def test_rules_leave_modules_alone_or_give_them_bits_of_their_own(tmp_path: Path) -> None:
    """GPTQModel's dynamic: no up_proj, down_proj of layer 3 in 8 bits, groups of 32."""
    rules = {"-:.*up_proj": {}, r"+:.*\.3\.mlp\.down_proj": {"bits": 8, "group_size": 32}}
    mlp = stored(llama(tmp_path, {**GPTQ, "dynamic": rules}), "dense_mlp")
    assert mlp["bf16", None] == 32 * ONE_MATRIX
    assert mlp["int8", None] == ONE_MATRIX
    assert mlp["int4", None] == 63 * ONE_MATRIX
    assert mlp["fp16", "scales"] == 63 * ONE_MATRIX // 128 + ONE_MATRIX // 32


def test_only_the_modules_of_a_list(tmp_path: Path) -> None:
    listed = [["mlp.gate_proj", "mlp.up_proj"]]
    spec = llama(tmp_path, {**GPTQ, "modules_in_block_to_quantize": listed})
    assert stored(spec, "dense_mlp")["bf16", None] == 32 * ONE_MATRIX
    assert list(stored(spec, "attention")) == [("bf16", None)]


def test_a_head_that_is_quantised_too(tmp_path: Path) -> None:
    spec = llama(tmp_path, {**GPTQ, "lm_head": True})
    assert stored(spec, "lm_head")["int4", None] == 32_000 * 4096


@pytest.mark.parametrize("section", [GPTQ, {**AWQ, "modules_to_not_convert": ["mlp.gate"]}])
def test_each_expert_is_a_module_and_the_router_is_none(
    tmp_path: Path, section: dict[str, Any]
) -> None:
    spec = spec_of(tmp_path, {**EXPERTS, "quantization_config": section})
    experts = stored(spec, "routed_experts")
    assert experts["int4", None] == ROUTED
    assert experts["fp16", "scales"] == ROUTED // 128
    assert stored(spec, "router") == {("bf16", None): 2 * 8 * 256}


def test_awq_takes_a_router_that_no_list_names_for_a_layer_like_others(tmp_path: Path) -> None:
    """In 4 bits, or as it was."""
    spec = spec_of(tmp_path, {**EXPERTS, "quantization_config": AWQ})
    assert "bytes too high: router" in " ".join(spec.assumptions)


def test_awq_as_published(tmp_path: Path) -> None:
    """Qwen2.5-7B, by hand: 28 layers of 233,046,016 weights in 4.15625 bits, the rest in 16.

    Embedding and head 152,064 x 3,584, biases 4,608 and norms 7,168 a layer, a last norm.
    """
    spec = spec_of(tmp_path, changed("Qwen/Qwen2.5-7B", {"quantization_config": AWQ}))
    plain = 2 * 152_064 * 3584 + 28 * (4608 + 7168) + 3584
    assert spec.weights_bytes == 28 * 233_046_016 * 133 // 256 + 2 * plain
    assert spec.weights_bytes == 5_570_747_392


@pytest.mark.parametrize("section", [GPTQ, AWQ])
def test_towers_stay_as_they_are(tmp_path: Path, section: dict[str, Any]) -> None:
    changes = {"quantization_config": {**section, "group_size": 64}}
    spec = spec_of(tmp_path, changed("google/gemma-3-27b-it", changes))
    assert {dtype for dtype, _ in stored(spec, "vision")} == {"bf16"}
    assert ("int4", None) in stored(spec, "attention")


AUTO_ROUND: dict[str, Any] = {
    "quant_method": "auto-round",
    "bits": 4,
    "group_size": 128,
    "sym": True,
    "data_type": "int",
    "packing_format": "auto_round:auto_gptq",
    "block_name_to_quantize": "model.layers",
}


def test_autoround_of_single_layers(tmp_path: Path) -> None:
    """One matrix in 8 bits by its name, one of each layer in 16 by a pattern; no g_idx."""
    extra = {
        "model.layers.3.mlp.up_proj": {"bits": 8},
        r".*mlp\.down_proj.*": {"bits": 16, "data_type": "float"},
    }
    mlp = stored(llama(tmp_path, {**AUTO_ROUND, "extra_config": extra}), "dense_mlp")
    assert mlp["bf16", None] == 32 * ONE_MATRIX
    assert mlp["int8", None] == ONE_MATRIX
    assert mlp["int4", None] == 63 * ONE_MATRIX
    assert ("int32", "order") not in mlp


def test_autoround_of_the_head(tmp_path: Path) -> None:
    spec = llama(tmp_path, {**AUTO_ROUND, "extra_config": {"lm_head": {"bits": 8}}})
    assert stored(spec, "lm_head")["int8", None] == 32_000 * 4096


UNKNOWN: list[tuple[dict[str, Any], str]] = [
    ({**GPTQ, "bits": None}, "GPTQ without bits of 2 to 8 and group_size"),
    ({**GPTQ, "bits": 16}, "GPTQ without bits of 2 to 8"),
    ({**GPTQ, "group_size": 0}, "GPTQ without bits of 2 to 8 and group_size"),
    ({**GPTQ, "checkpoint_format": "marlin"}, "GPTQ format 'marlin': not counted"),
    ({**GPTQ, "is_marlin_format": True}, "GPTQ format 'marlin': not counted"),
    ({**GPTQ, "pack_dtype": "int16"}, "in other words than int32"),
    ({**GPTQ, "dynamic": {"-:(a+)+": {}}}, "dynamic: a pattern that is too long"),
    ({**GPTQ, "dynamic": {"-:.*novel": {}}}, "'.*novel' fits no module known here"),
    ({**GPTQ, "dynamic": {r"-:.*experts\.3\..*": {}}}, "one expert of many"),
    ({**AUTO_ROUND, "extra_config": {"model.layers.0.ffn": {"bits": 8}}}, "fits no module"),
    ({**AWQ, "bits": 8}, "AWQ without 4 bits and group_size"),
    ({**AWQ, "version": "marlin"}, "AWQ version 'marlin': not counted"),
    ({**AWQ, "group_size": 3000}, "4096 columns are not a multiple of 3000"),
    ({**AWQ, "modules_to_not_convert": ["gate"]}, "'gate' may mean other modules"),
    ({**AUTO_ROUND, "packing_format": "auto_round:fp8"}, "packing_format 'auto_round:fp8'"),
    ({**AUTO_ROUND, "data_type": "mx_fp"}, "AutoRound without bits, group_size and data_type int"),
    ({**AUTO_ROUND, "block_name_to_quantize": "model.visual.blocks"}, "outside the language model"),
]


@pytest.mark.parametrize(("section", "reason"), UNKNOWN)
def test_what_the_file_does_not_determine(
    tmp_path: Path, section: dict[str, Any], reason: str
) -> None:
    assert reason in why(llama(tmp_path, section))


def test_recurrent_layers_need_a_rule(tmp_path: Path) -> None:
    """GPTQModel leaves some projections of Qwen3-Next out; a rule of the file decides."""
    name = "Qwen/Qwen3-Next-80B-A3B-Thinking"
    for section in (GPTQ, AWQ):
        silent = spec_of(tmp_path, changed(name, {"quantization_config": section}))
        assert "no list says whether it is quantised" in why(silent)
    rules: dict[str, Any] = {"dynamic": {"-:.*linear_attn.*": {}}}
    for section in ({**GPTQ, **rules}, {**AWQ, "modules_to_not_convert": ["linear_attn"]}):
        ruled = spec_of(tmp_path, changed(name, {"quantization_config": section}))
        assert {dtype for dtype, _ in stored(ruled, "recurrent")} <= {"bf16", "fp32"}
        assert ("int4", None) in stored(ruled, "routed_experts")


@pytest.mark.parametrize(
    ("file", "content", "dtype"),
    [
        ("quantize_config.json", {"bits": 8, "group_size": 128, "desc_act": True}, "int8"),
        ("quant_config.json", {"w_bit": 4, "q_group_size": 128, "version": "GEMM"}, "int4"),
    ],
)
def test_an_older_file_beside_the_config(
    tmp_path: Path, file: str, content: dict[str, Any], dtype: str
) -> None:
    write(tmp_path, LLAMA)
    (tmp_path / file).write_text(json.dumps(content), encoding="utf-8")
    spec = hf.read_config(tmp_path)[0]
    assert stored(spec, "dense_mlp")[dtype, None] == MATRICES * ONE_MATRIX
