"""MLX: its section has no method, and the embedding is quantised like all else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.hf.configs import spec_of
from tests.hf.models import changed
from tests.hf.quantization.sections import MATRICES, stored, why
from tests.hf.weight_configs import EXPERTS, LLAMA, ONE_MATRIX, ROUTED

FOUR: dict[str, Any] = {"group_size": 64, "bits": 4}


def mlx(folder: Path, figures: dict[str, Any], raw: dict[str, Any] | None = None) -> Any:
    return spec_of(folder, {**(raw or LLAMA), "quantization": figures})


@pytest.mark.parametrize("both", [False, True])
def test_a_scale_and_a_bias_for_each_group_of_every_matrix(tmp_path: Path, both: bool) -> None:
    """The older key alone, or with the same in quantization_config; norms stay in 16 bits."""
    keys = {"quantization": FOUR, **({"quantization_config": FOUR} if both else {})}
    spec = spec_of(tmp_path, {**LLAMA, **keys})
    for part, elements in (("embedding", 32_000 * 4096), ("dense_mlp", MATRICES * ONE_MATRIX)):
        assert stored(spec, part) == {
            ("int4", None): elements,
            ("bf16", "scales"): elements // 64,
            ("bf16", "zero points"): elements // 64,
        }
    assert list(stored(spec, "norm")) == [("bf16", None)]


def test_qwen3_4b_as_mlx_lm_and_mlc_store_it(tmp_path: Path) -> None:
    """4,022,272,000 weights in 4.5 bits and 196,096 of norms in 16: 2,262,920,192 B.

    The same figure is MLC's for its Qwen3-4B-q4f16_1, which packs alike.
    """
    qwen = {
        **LLAMA,
        "model_type": "qwen3",
        "vocab_size": 151_936,
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_hidden_layers": 36,
        "head_dim": 128,
        "tie_word_embeddings": True,
    }
    spec = mlx(tmp_path, FOUR, qwen)
    assert spec.weights_bytes == 2_262_920_192


def test_single_modules_have_figures_of_their_own_or_none(tmp_path: Path) -> None:
    """A path to other figures, to false, or to a mode of its own."""
    figures = {
        **FOUR,
        "model.layers.3.mlp.up_proj": {"group_size": 32, "bits": 8},
        "model.layers.4.mlp.up_proj": False,
        "model.layers.5.mlp.up_proj": {"group_size": 32, "bits": 4, "mode": "mxfp4"},
        "lm_head": {"group_size": 64, "bits": 6},
    }
    spec = mlx(tmp_path, figures)
    mlp = stored(spec, "dense_mlp")
    assert mlp["int8", None] == mlp["bf16", None] == mlp["fp4", None] == ONE_MATRIX
    assert mlp["e8m0", "scales"] == ONE_MATRIX // 32
    assert stored(spec, "lm_head")["int6", None] == 32_000 * 4096


@pytest.mark.parametrize(
    "path",
    [
        "model.layers.0.mlp.w2",
        "model.layers.99.mlp.down_proj",
        "layers.0.mlp.down_proj",
        "model.layers.*.mlp.down_proj",
    ],
)
def test_a_path_that_no_module_has_is_not_missed_in_silence(tmp_path: Path, path: str) -> None:
    spec = mlx(tmp_path, {**FOUR, path: {"group_size": 64, "bits": 8}})
    assert "is no module that is known here" in why(spec)


def test_a_router_is_quantised_or_not_unless_the_file_says_so(tmp_path: Path) -> None:
    """Experts of a layer are one stack to MLX, with the same bytes."""
    silent = mlx(tmp_path, FOUR, EXPERTS)
    assert stored(silent, "routed_experts")["int4", None] == ROUTED
    assert "bytes too high: router" in " ".join(silent.assumptions)
    gates = {f"model.layers.{i}.mlp.gate": {"group_size": 64, "bits": 8} for i in range(2)}
    said = mlx(tmp_path, {**FOUR, **gates}, EXPERTS)
    assert stored(said, "router")["int8", None] == 2 * 8 * 256
    assert said.assumptions == ()


def test_columns_that_are_no_multiple_of_the_group_stay(tmp_path: Path) -> None:
    """4,096 and 11,008 columns divide by 64, 1,000 do not."""
    spec = mlx(tmp_path, FOUR, {**LLAMA, "intermediate_size": 1000})
    assert stored(spec, "dense_mlp")["bf16", None] == 32 * 1000 * 4096


UNKNOWN: list[tuple[dict[str, Any], str]] = [
    ({"group_size": 64, "bits": 4, "mode": "novel"}, "MLX 'novel' without bits and group_size"),
    ({"group_size": 64, "bits": 7}, "without bits and group_size that are known"),
    ({"group_size": 48, "bits": 4}, "without bits and group_size that are known"),
    ({**FOUR, "lm_head": {"bits": 4}}, "lm_head: bits and group_size are not known"),
    ({**FOUR, "novel": 3}, " names no quant_method"),
    ({"bits": 4}, " names no quant_method"),
]


@pytest.mark.parametrize(("figures", "reason"), UNKNOWN)
def test_figures_that_are_not_known(tmp_path: Path, figures: dict[str, Any], reason: str) -> None:
    assert reason in why(mlx(tmp_path, figures))


def test_a_tower_may_have_been_left_out_quantised_or_kept(tmp_path: Path) -> None:
    spec = mlx(tmp_path, FOUR, changed("google/gemma-3-27b-it", {}))
    assert "does not say whether MLX quantised the tower" in why(spec)


def test_what_mlx_made_of_an_fp8_file(tmp_path: Path) -> None:
    """mlx-lm left the section of fp8 where it was, and wrote its own beside it."""
    fp8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    spec = spec_of(tmp_path, {**LLAMA, "quantization": FOUR, "quantization_config": fp8})
    assert stored(spec, "dense_mlp")["int4", None] == MATRICES * ONE_MATRIX
