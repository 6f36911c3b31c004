"""Parameters and stored bytes by part, as a spec states them; expected figures are by hand."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from kvplan.errors import RefusedError
from kvplan.hf import read_config
from kvplan.spec import ModelSpec
from tests.hf.configs import REFERENCE, spec_of
from tests.hf.models import MODELS
from tests.hf.models import spec_of as spec_of_model

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 32_000,
    "hidden_size": 4096,
    "intermediate_size": 11_008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
EXPERTS: dict[str, Any] = {
    "model_type": "qwen3_moe",
    "vocab_size": 1000,
    "hidden_size": 256,
    "head_dim": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 128,
    "decoder_sparse_step": 1,
    "mlp_only_layers": [],
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
# 8 experts x 3 matrices of 128 x 256, in 2 layers
ROUTED = 2 * 8 * 3 * 128 * 256
# Embedding and head, q and o, k and v, three matrices of the MLP, norms
PARAMETERS = (
    2 * 32_000 * 4096
    + 32 * (2 * 4096 * 4096 + 2 * 1024 * 4096 + 3 * 4096 * 11_008 + 2 * 4096)
    + 4096
)
ONE_MATRIX = 4096 * 11_008
FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}


def without(raw: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in raw.items() if key not in keys}


def rows(spec: ModelSpec, part: str) -> list[tuple[str, int]]:
    return [(row.dtype, row.elements) for row in spec.weights if row.part == part]


def quantized(raw: dict[str, Any], **section: Any) -> dict[str, Any]:
    return {**raw, "quantization_config": section}


def test_llama_is_counted_by_part(tmp_path: Path) -> None:
    """GQA makes k and v a quarter of q."""
    spec = spec_of(tmp_path, LLAMA)
    assert rows(spec, "embedding") == rows(spec, "lm_head") == [("bf16", 32_000 * 4096)]
    assert rows(spec, "attention") == [("bf16", 32 * (2 * 4096 * 4096 + 2 * 1024 * 4096))]
    assert rows(spec, "dense_mlp") == [("bf16", 32 * 3 * ONE_MATRIX)]
    assert rows(spec, "norm") == [("bf16", 32 * 2 * 4096 + 4096)]
    assert spec.parameters is not None
    assert (spec.parameters.total, spec.parameters.active) == (PARAMETERS, PARAMETERS)
    assert spec.weights_bytes == 2 * PARAMETERS


def test_a_tied_head_counts_once_and_is_stored_once(tmp_path: Path) -> None:
    tied = spec_of(tmp_path, {**LLAMA, "tie_word_embeddings": True})
    assert tied.weights_bytes == 2 * (PARAMETERS - 32_000 * 4096)
    assert rows(tied, "lm_head") == []


def test_active_parameters_are_those_of_the_chosen_experts(tmp_path: Path) -> None:
    """Two of eight experts, everything else in full."""
    spec = spec_of(tmp_path, EXPERTS)
    assert rows(spec, "routed_experts") == [("bf16", ROUTED)]
    assert (spec.routed_experts, spec.expert_intermediate_size) == (8, 128)
    assert spec.parameters is not None
    assert spec.parameters.active is not None
    assert spec.parameters.total - spec.parameters.active == ROUTED * 6 // 8


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


def test_a_file_without_dtype_is_taken_in_bf16_and_said_to_be(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, without(LLAMA, "torch_dtype"))
    assert spec.weights_bytes == 2 * PARAMETERS
    assert "names no dtype: bf16 is taken" in " ".join(spec.assumptions)


@pytest.mark.parametrize("key", ["vocab_size", "intermediate_size"])
def test_a_missing_figure_is_named_and_nothing_is_counted(tmp_path: Path, key: str) -> None:
    """The cache side still stands, so this is not refused."""
    spec = spec_of(tmp_path, without(LLAMA, key))
    assert spec.parameters is None
    assert key in spec.not_counted[0]


def test_a_key_that_may_change_the_weights_is_not_passed_over(tmp_path: Path) -> None:
    """A dense family with experts in its file."""
    spec = spec_of(tmp_path, {**LLAMA, "num_local_experts": 8})
    assert spec.parameters is None
    assert "num_local_experts" in spec.not_counted[0]


def test_contradictions_are_refused(tmp_path: Path) -> None:
    """More experts used than there are."""
    with pytest.raises(RefusedError):
        spec_of(tmp_path, {**EXPERTS, "num_experts_per_tok": 9})


def test_a_vision_tower_without_its_config_is_named_and_the_total_unknown(tmp_path: Path) -> None:
    """Never quietly left out."""
    text = {**without(LLAMA, "tie_word_embeddings"), "model_type": "gemma3_text", "head_dim": 128}
    text["sliding_window"] = 1024
    spec = spec_of(
        tmp_path, {"model_type": "gemma3", "text_config": text, "tie_word_embeddings": True}
    )
    assert spec.parameters is None
    assert "vision_config" in spec.not_counted[0]


def test_a_dtype_that_no_key_tells_is_bounded() -> None:
    """Qwen3.5 kept A_log and the norm of its delta layers in fp32, Qwen3.6 in bf16."""
    name = "Qwen/Qwen3.5-397B-A17B"
    assert name in MODELS
    spec = spec_of_model(name)
    open_bytes = 2 * 45 * (64 + 128)  # half of an fp32, 45 layers, 64 heads and a norm of 128
    assert f"{open_bytes:,} fewer at the least" in " ".join(spec.assumptions)


PUBLISHED_BYTES = {
    # Tensor bytes of the published checkpoints without draft layers: index total_size, or file
    # sizes less their headers.
    "deepseek-ai/DeepSeek-V3": 673_150_611_808,
    "deepseek-ai/DeepSeek-V4-Pro": 864_704_792_696 - 13_956_587_692,
    "zai-org/GLM-5-FP8": 756_162_687_872 - 10_032_632_960,
    "zai-org/GLM-5.2-FP8": 755_617_140_416 - 10_032_632_960,
    "openai/gpt-oss-120b": 65_248_815_744,
    "MiniMaxAI/MiniMax-M2": 230_121_630_720,
    "google/gemma-4-26B-A4B": 51_611_872_412,
}


@pytest.mark.parametrize("name", sorted(PUBLISHED_BYTES))
def test_stored_bytes_are_those_of_the_published_files(name: str) -> None:
    """Scales, routers' biases and tables included."""
    assert spec_of_model(name).weights_bytes == PUBLISHED_BYTES[name]


NOT_COUNTED = {
    # Reference models that this count says it does not know, and the word that says why.
    "stepfun-ai__Step-3.7-Flash": "attention_other_setting",
    "stepfun-ai__Step-3.7-Flash-FP8": "attention_other_setting",
    "tencent__Tencent-Hunyuan-Large": "use_cla",
}


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="no reference beside the checkout")
def test_totals_of_the_reference_are_met_exactly() -> None:
    totals = json.loads((REFERENCE / "param-counts.json").read_text())
    for folder in sorted(REFERENCE.glob("hf-configs*/*")):
        expected = totals.get(folder.name)
        if expected is None or not (folder / "config.json").is_file():
            continue
        spec = read_config(folder)[0]
        if folder.name in NOT_COUNTED:
            assert spec.parameters is None
            assert NOT_COUNTED[folder.name] in spec.not_counted[0]
            continue
        assert spec.parameters is not None, folder.name
        assert spec.parameters.total == expected["total"], folder.name
        if expected.get("active_incl_embeddings") is not None:
            assert spec.parameters.active == expected["active_incl_embeddings"], folder.name
