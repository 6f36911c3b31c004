"""Parameters and stored bytes by part; expected figures are worked out by hand or published."""

from __future__ import annotations

import copy
import json
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from kvplan.hf.parameters import COUNTERS, Weights, counted

from kvplan.errors import KvplanError, RefusedError
from kvplan.hf import assembly
from kvplan.hf.config import Config
from kvplan.hf.families import FAMILIES

REFERENCE = Path(__file__).parents[2] / "shared" / "reference"
FOLDERS = ("hf-configs", "hf-configs-reconstructed")

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

NOT_COUNTED = {
    # Reference models that this count says it does not know, and the word that says why.
    "stepfun-ai__Step-3.7-Flash": "attention_other_setting",
    "stepfun-ai__Step-3.7-Flash-FP8": "attention_other_setting",
    "tencent__Tencent-Hunyuan-Large": "use_cla",
}


def weights(raw: dict[str, Any], beside: dict[str, Any] | None = None) -> Weights:
    top = Config(raw, "config.json", "Test")
    model_type, text = assembly._text_part(top)  # noqa: SLF001 - the level that the reader takes
    file = None if beside is None else Config(beside, "config.json", "Test", "hf_quant_config: ")
    return counted(top, text, model_type, file)


def without(raw: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in raw.items() if key not in keys}


def rows(found: Weights, part: str) -> list[tuple[str, int]]:
    stored = {p.name: p.stored for p in found.parts}[part]
    return [(row.dtype, row.elements) for row in stored or ()]


def part(found: Weights, name: str) -> int:
    return {p.name: p.parameters for p in found.parts}[name]


def test_llama_is_counted_by_part() -> None:
    """Worked out by hand: GQA makes k and v a quarter of q."""
    found = weights(LLAMA)
    assert part(found, "embedding") == 32_000 * 4096
    assert part(found, "attention") == 32 * (2 * 4096 * 4096 + 2 * 1024 * 4096)
    assert part(found, "dense_mlp") == 32 * 3 * 4096 * 11_008
    assert part(found, "norm") == 32 * 2 * 4096 + 4096
    assert part(found, "lm_head") == 32_000 * 4096
    assert found.active == found.total
    assert found.stored_bytes == 2 * (found.total or 0)


def test_a_tied_head_counts_once_and_is_stored_once() -> None:
    """One matrix less, and no part for it."""
    tied = weights({**LLAMA, "tie_word_embeddings": True})
    assert (weights(LLAMA).total or 0) - (tied.total or 0) == 32_000 * 4096
    assert "lm_head" not in {p.name for p in tied.parts}


def test_active_parameters_are_those_of_the_chosen_experts() -> None:
    """Two of eight experts, everything else in full."""
    found = weights(EXPERTS)
    assert part(found, "routed_experts") == ROUTED
    assert (found.total or 0) - (found.active or 0) == ROUTED * 6 // 8


def test_fp8_blocks_have_one_scale_for_each_started_block() -> None:
    """11,008 rows are 86 blocks, 32,000 stay out: the head is not converted."""
    section = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    found = weights({**LLAMA, "quantization_config": section})
    blocks = 3 * 86 * 32
    expected = [("fp8", 32 * 3 * 4096 * 11_008), ("fp32", 32 * blocks)]
    assert rows(found, "dense_mlp") == expected
    assert rows(found, "lm_head") == [("bf16", 32_000 * 4096)]


def test_modules_that_are_not_converted_stay_by_name() -> None:
    """One layer's gate_proj, by its own name."""
    names = ["lm_head", "model.layers.7.mlp.gate_proj"]
    section = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    found = weights({**LLAMA, "quantization_config": {**section, "modules_to_not_convert": names}})
    each = 4096 * 11_008
    assert ("bf16", each) in rows(found, "dense_mlp")
    assert ("fp8", (32 * 3 - 1) * each) in rows(found, "dense_mlp")


def test_a_wildcard_after_a_number_means_every_layer_that_it_fits() -> None:
    """``layers.1*`` is layer 1 and 10 to 19: eleven of 32."""
    section = {"quant_method": "modelopt", "quant_algo": "NVFP4"}
    section = {**section, "ignore": ["lm_head", "model.layers.1*"]}  # type: ignore[dict-item]
    found = weights({**LLAMA, "quantization_config": section})
    assert ("bf16", 11 * 3 * 4096 * 11_008) in rows(found, "dense_mlp")


def test_a_listed_module_that_does_not_exist_makes_the_bytes_unknown() -> None:
    """Another spelling would be missed in silence."""
    section = {"quant_method": "modelopt", "quant_algo": "FP8"}
    section = {**section, "ignore": ["lm_head", "model.layers.3.ffn.gate_proj"]}  # type: ignore[dict-item]
    found = weights({**LLAMA, "quantization_config": section})
    assert found.stored is None
    assert "model.layers.3.ffn.gate_proj" in " ".join(found.unknown)
    assert found.total is not None


@pytest.mark.parametrize("method", ["gptq", "bitsandbytes", "awq", "something"])
def test_a_quantisation_of_unknown_layout_leaves_parameters_and_no_bytes(method: str) -> None:
    """Nothing is guessed; norms and embedding are still known."""
    found = weights({**LLAMA, "quantization_config": {"quant_method": method, "bits": 4}})
    assert found.total == weights(LLAMA).total
    assert found.stored_bytes is None
    assert method in " ".join(found.unknown)
    assert rows(found, "norm") == [("bf16", 32 * 2 * 4096 + 4096)]


def test_int4_pack_has_scales_and_a_shape_for_each_expert_matrix() -> None:
    """compressed-tensors: bf16 scale for 32 and two int32 a matrix."""
    group = {
        "targets": ["Linear"],
        "input_activations": None,
        "weights": {
            "num_bits": 4,
            "type": "int",
            "strategy": "group",
            "group_size": 32,
            "symmetric": True,
        },
    }
    section = {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {"group_0": group},
        "ignore": ["lm_head", "re:.*self_attn.*"],
    }
    found = weights({**EXPERTS, "quantization_config": section})
    expected = [("int4", ROUTED), ("bf16", ROUTED // 32), ("int32", 2 * 2 * 8 * 3)]
    assert rows(found, "routed_experts") == expected
    assert [dtype for dtype, _ in rows(found, "attention")] == ["bf16"]


def test_a_file_without_dtype_has_parameters_and_no_bytes() -> None:
    """Served in bf16 or not, the checkpoint may be anything."""
    found = weights(without(LLAMA, "torch_dtype"))
    assert found.total == weights(LLAMA).total
    assert found.stored_bytes is None
    assert "names no dtype" in found.unknown[0]


@pytest.mark.parametrize("key", ["vocab_size", "intermediate_size"])
def test_a_missing_figure_is_named_and_nothing_is_counted(key: str) -> None:
    """The cache side still stands, so this is no refusal."""
    found = weights(without(LLAMA, key))
    assert found.total is None
    assert key in found.not_counted[0]


def test_a_key_that_may_change_the_weights_is_not_passed_over() -> None:
    """A dense family with experts in its file."""
    found = weights({**LLAMA, "num_local_experts": 8})
    assert found.total is None
    assert "num_local_experts" in found.not_counted[0]


def test_contradictions_are_refused() -> None:
    """More experts used than there are."""
    with pytest.raises(RefusedError):
        weights({**EXPERTS, "num_experts_per_tok": 9})


def test_a_vision_tower_without_its_config_is_named_and_the_total_unknown() -> None:
    """Never quietly left out."""
    text = {**without(LLAMA, "tie_word_embeddings"), "model_type": "gemma3_text", "head_dim": 128}
    raw = {"model_type": "gemma3", "text_config": text, "tie_word_embeddings": True}
    found = weights(raw)
    assert found.total is None
    assert "vision_config" in found.not_counted[0]


def test_a_dtype_that_no_key_tells_is_bounded() -> None:
    """Qwen3.5 kept A_log and the norm of its delta layers in fp32, Qwen3.6 in bf16."""
    raw = _raw("Qwen__Qwen3.5-397B-A17B")
    found = {p.name: p for p in weights(raw).parts}["recurrent"]
    assert found.stored is None
    assert (found.most_bytes or 0) - (found.least_bytes or 0) == 2 * 45 * (64 + 128)


def _raw(name: str) -> dict[str, Any]:
    for folder in FOLDERS:
        file = REFERENCE / folder / name / "config.json"
        if file.is_file():
            raw: dict[str, Any] = json.loads(file.read_text())
            return raw
    pytest.skip(f"{name} is not there")


def _beside(name: str) -> dict[str, Any] | None:
    file = REFERENCE / FOLDERS[0] / name / "hf_quant_config.json"
    return json.loads(file.read_text()) if file.is_file() else None


def _totals() -> dict[str, dict[str, Any]]:
    file = REFERENCE / "param-counts.json"
    if not file.is_file():
        return {}
    found: dict[str, dict[str, Any]] = json.loads(file.read_text())
    return found


@pytest.mark.parametrize("name", sorted(_totals()))
def test_totals_of_the_reference_are_met_exactly(name: str) -> None:
    """Each of the 121, or a reason that names a key."""
    expected = _totals()[name]
    found = weights(_raw(name), _beside(name))
    if name in NOT_COUNTED:
        assert found.total is None
        assert NOT_COUNTED[name] in found.not_counted[0]
        return
    assert found.total == expected["total"]
    if expected.get("active_incl_embeddings") is not None:
        assert found.active == expected["active_incl_embeddings"]


PUBLISHED_BYTES = {
    # Tensor bytes of the published checkpoints without draft layers: index total_size, or file
    # sizes less their headers (find_string, see params/*.json).
    "deepseek-ai__DeepSeek-V3": 673_150_611_808,
    "deepseek-ai__DeepSeek-V4-Pro": 864_704_792_696 - 13_956_587_692,
    "zai-org__GLM-5-FP8": 756_162_687_872 - 10_032_632_960,
    "zai-org__GLM-5.2-FP8": 755_617_140_416 - 10_032_632_960,
    "openai__gpt-oss-120b": 65_248_815_744,
    "MiniMaxAI__MiniMax-M2": 230_121_630_720,
    "google__gemma-4-26B-A4B": 51_611_872_412,
}


@pytest.mark.parametrize("name", sorted(PUBLISHED_BYTES))
def test_stored_bytes_are_those_of_the_published_files(name: str) -> None:
    """Scales, routers' biases and tables included."""
    assert weights(_raw(name), _beside(name)).stored_bytes == PUBLISHED_BYTES[name]


def test_parts_and_rows_agree() -> None:
    """Parameters of a part are its weight rows, scales and buffers aside (Llama, bf16)."""
    for found in weights(LLAMA).parts:
        assert sum(row.elements for row in found.stored or ()) == found.parameters
        assert found.least_bytes == found.most_bytes == 2 * found.parameters


def test_every_counter_is_of_a_family_that_the_cache_reader_knows() -> None:
    """A count that nothing can reach would be dead code."""
    assert set(COUNTERS) <= set(FAMILIES) | {"qwen2_vl", "qwen2_5_vl"}


BAD: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1 << 70,
    1e308,
    float("inf"),
    "x",
    "",
    [],
    {},
    [1],
    10_000,
)
PATTERNS = ("re:((a+)+)+$", "re:[", "model.layers.1*", "*" * 50, "re:" + "a?" * 90)


def _mutated(raw: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    made = copy.deepcopy(raw)
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = [(made, key) for key in made]
        for value in list(made.values()):
            if isinstance(value, dict):
                places += [(value, key) for key in value]
        owner, key = rng.choice(places)
        if rng.random() < 0.3:
            owner.pop(key, None)
        else:
            owner[key] = rng.choice((*BAD, list(PATTERNS)))
    return made


def test_a_broken_file_is_counted_or_refused_and_never_crashes() -> None:
    """3,000 files with keys dropped, retyped and blown up."""
    names = [name for name in sorted(_totals()) if name not in NOT_COUNTED]
    if not names:
        pytest.skip("no reference configs")
    rng, seen = random.Random(5), Counter[str]()  # noqa: S311 - not for secrets
    for _ in range(3_000):
        name = rng.choice(names)
        try:
            found = weights(_mutated(_raw(name), rng), _beside(name))
        except KvplanError:
            seen["refused"] += 1
        else:
            seen["none" if found.total is None else "counted"] += 1
            assert found.stored_bytes is None or found.stored_bytes > 0
    assert min(seen.values()) > 100


def test_counting_takes_a_few_milliseconds() -> None:
    """The largest list of names among the reference files; a generous bound for slow machines."""
    raw, beside = _raw("nvidia__GLM-5-NVFP4"), _beside("nvidia__GLM-5-NVFP4")
    started = time.perf_counter()
    for _ in range(10):
        weights(raw, beside)
    assert (time.perf_counter() - started) / 10 < 0.05
