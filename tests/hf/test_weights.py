"""Parameters and stored bytes by part, as a spec states them; expected figures are by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kvplan.errors import RefusedError
from tests.hf.configs import spec_of
from tests.hf.models import MODELS
from tests.hf.models import spec_of as spec_of_model
from tests.hf.weight_configs import EXPERTS, LLAMA, ONE_MATRIX, PARAMETERS, ROUTED, rows


def without(raw: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in raw.items() if key not in keys}


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
    assert spec.parameters.of_language - spec.parameters.active == ROUTED * 6 // 8


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
    assert spec.parameters is not None
    assert spec.parameters.total is None
    assert "vision_config" in spec.not_counted[0]


def test_a_dtype_that_no_key_tells_is_bounded() -> None:
    """Qwen3.5 kept A_log and the norm of its delta layers in fp32, Qwen3.6 in bf16."""
    name = "Qwen/Qwen3.5-397B-A17B"
    assert name in MODELS
    spec = spec_of_model(name)
    open_bytes = 2 * 45 * (64 + 128)  # half of an fp32, 45 layers, 64 heads and a norm of 128
    assert f"up to {open_bytes:,} bytes too high" in " ".join(spec.assumptions)


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
