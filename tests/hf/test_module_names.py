"""Which modules the lists of a quantised checkpoint mean."""

from __future__ import annotations

import pytest

from kvplan.hf.blocks.base import Tensor
from kvplan.hf.module_names import lost, patterns, skipped, spellings

LAYERS = tuple(range(12))
GATE = Tensor("dense_mlp", "model.layers.*.mlp.gate_proj", (4, 4), "linear", layers=LAYERS)
EXPERT = Tensor(
    "routed_experts", "model.layers.*.mlp.experts.*.up_proj", (4, 4), "linear", 8, 2, LAYERS
)
HEAD = Tensor("lm_head", "lm_head", (4, 4), "linear")


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("model.layers.3.mlp.gate_proj", {3}),
        ("model.layers.3.mlp", {3}),
        ("layers.3.mlp.gate_proj", {3}),
        ("model.language_model.layers.3.mlp.gate_proj", {3}),
        ("language_model.model.layers.3.mlp", {3}),
        ("gate_proj", set(LAYERS)),
        ("*gate_proj*", set(LAYERS)),
        ("*.mlp.up*", set()),
        ("model.layers.1*", {1, 10, 11}),
        ("model.layers.[12].*", {1, 2}),
        ("model.layers.?.mlp*", set(range(10))),
        ("re:.*gate.*", set(LAYERS)),
        (r"re:model\.layers\.[0-3]\.", {0, 1, 2, 3}),
        (r"re:.*layers\.1\d\.", {10, 11}),
        (r"re:.*layers\..\.mlp", set(range(10))),
        (r"re:.*mlp\.(gate|up)_proj$", set(LAYERS)),
        ("re:gate", set()),  # as re.match does, from the start
        ("model.layers.30.mlp.gate_proj", set()),
        ("lm_head", set()),
    ],
)
def test_layers_on_which_a_name_leaves_a_module_alone(name: str, layers: set[int]) -> None:
    assert skipped(patterns([name]), GATE) == layers


def test_a_module_without_a_layer_is_left_alone_as_a_whole() -> None:
    assert skipped(patterns(["lm_head"]), HEAD) == {0}
    assert skipped(patterns(["re:.*head"]), HEAD) == {0}


def test_names_of_several_layers_add_up() -> None:
    names = [f"model.layers.{index}.mlp.gate_proj" for index in (0, 5, 7)]
    assert skipped(patterns([*names, "model.layers.11*"]), GATE) == {0, 5, 7, 11}


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("re:((a+)+)+$", "could take forever"),
        ("re:" + ".*" * 5 + "x", "could take forever"),
        ("re:" + "a?" * 300, "too long"),
        ("model.layers.1*" + "*" * 8, "could take forever"),
        ("model.layers.1*" + "a" * 400, "too long"),
        ("re:[", "'[' is not a pattern"),
        ("re:(?P<a>x)(?P<a>y)", "is not a pattern"),
        ("model.layers.0.mlp.experts.3.up_proj", "is one expert of many"),
    ],
)
def test_a_name_that_cannot_be_followed(name: str, problem: str) -> None:
    assert problem in (patterns([name]).problem or "")


def test_a_name_that_fits_no_module_is_lost() -> None:
    tensors = [GATE, EXPERT, HEAD]
    assert lost(patterns(["model.layers.3.mlp.gate_proj"]), tensors) is None
    assert lost(patterns(["model.layers.3.ffn"]), tensors) == (
        "'model.layers.3.ffn' is not a module known here"
    )
    beyond = ["model.layers.12.mlp.gate_proj", "vision_tower.layers.3.ffn", "model.layers.3.mtp.x"]
    assert lost(patterns(beyond), tensors) is None


def test_spellings_of_wrappers_and_older_releases() -> None:
    assert set(spellings("model.norm")) == {
        "model.norm",
        "language_model.model.norm",
        "model.language_model.norm",
        "backbone.norm",
    }
    assert set(spellings("backbone.norm")) == {"backbone.norm", "model.norm"}
    assert set(spellings("lm_head")) == {"lm_head", "language_model.lm_head", "model.lm_head"}


def test_groups_name_deepseek_v4_s_modules_as_vllm_does() -> None:
    """Gate, up, down; wq_a, wkv as one (vLLM 0.33.0 routed_experts.py:92, attention.py:257)."""
    expert = "layers.*.ffn.experts.*"
    roles = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}
    for name, role in roles.items():
        assert f"{expert}.{role}" in spellings(f"{expert}.{name}")
    for name in ("wq_a", "wkv"):
        assert "layers.*.attn.fused_wqa_wkv" in spellings(f"layers.*.attn.{name}")
    mixtral = "model.layers.*.block_sparse_moe.experts.*.w1"
    assert not any("gate_proj" in name for name in spellings(mixtral))
    assert not any("fused" in name for name in spellings("layers.*.attn.compressor.wkv"))


FUSED = ["q_proj", "k_proj", "v_proj", "fused_qkvbfg_a_proj", "qkv_proj"]


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (FUSED, None),
        (FUSED[1:], "'model.layers.0.self_attn.fused_qkvbfg_a_proj' is not a module known here"),
        ([*FUSED, "own_proj"], "'model.layers.0.self_attn.own_proj' is not a module known here"),
    ],
)
def test_an_engines_fused_module_goes_with_its_parts(names: list[str], problem: str | None) -> None:
    """zai-org/GLM-5.3-Flash lists both."""
    tensors = [
        Tensor(
            "recurrent", f"model.layers.*.self_attn.{letter}_proj", (4, 4), "linear", layers=(0,)
        )
        for letter in "qkv"
    ]
    listed = patterns([f"model.layers.0.self_attn.{name}" for name in names])
    assert lost(listed, tensors) == problem
