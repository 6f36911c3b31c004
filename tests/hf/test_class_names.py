"""What a class in ``architectures`` says of the model; whole models stand in classes.jsonl."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kvplan.hf.class_names import class_name
from tests.hf.configs import LLAMA, refusal, sizes, spec_of
from tests.hf.models import changed

FULL: dict[str, Any] = {
    **LLAMA,
    "intermediate_size": 14_336,
    "vocab_size": 128_256,
    "tie_word_embeddings": False,
}
LAYERS_AND_EMBEDDING = 8_030_261_248 - 128_256 * 4096
"""Llama-3-8B without its head: 8,030,261,248 are published."""


@pytest.mark.parametrize(
    ("name", "more", "head"),
    [
        ("LlamaForCausalLM", {}, 128_256 * 4096),
        ("LlamaForSequenceClassification", {}, 2 * 4096),
        ("LlamaForSequenceClassification", {"num_labels": 1}, 4096),
        ("LlamaForSequenceClassification", {"id2label": {"0": "a", "1": "b", "2": "c"}}, 3 * 4096),
        ("LlamaForTokenClassification", {"num_labels": 9}, 9 * 4096 + 9),
        ("LlamaForQuestionAnswering", {"num_labels": 9}, 2 * 4096 + 2),
        ("LlamaModel", {}, 0),
        # vLLM 0.33.0 adapters.py makes the class of any model, num_labels as in transformers.
        ("LLaMAForSequenceClassification", {}, 2 * 4096),
    ],
)
def test_the_head_is_that_of_the_task(
    tmp_path: Path, name: str, more: dict[str, Any], head: int
) -> None:
    spec = spec_of(tmp_path, {**FULL, **more, "architectures": [name]})
    assert spec.parameters is not None
    assert spec.parameters.total == LAYERS_AND_EMBEDDING + head
    assert sizes(spec) == (131_072, 0)
    assert bool(spec.assumptions) == (name != "LlamaForCausalLM")


@pytest.mark.parametrize(("name", "labels"), [("RewardModel", 1), ("ProcessRewardModel", 2)])
def test_qwens_reward_models_have_two_layers(tmp_path: Path, name: str, labels: int) -> None:
    """A matrix and a bias of the hidden size, then the labels (vLLM 0.33.0 qwen2_rm.py:51)."""
    config = {**FULL, "model_type": "qwen2", "use_sliding_window": False}
    whole = spec_of(tmp_path, {**config, "architectures": ["Qwen2ForCausalLM"]})
    reward = spec_of(tmp_path, {**config, "architectures": [f"Qwen2For{name}"]})
    assert whole.parameters is not None
    assert reward.parameters is not None
    assert reward.parameters.total is not None
    assert whole.parameters.total is not None
    head = 4096 * 4096 + 4096 + labels * 4096 + labels
    assert reward.parameters.total - whole.parameters.total == head - 128_256 * 4096


@pytest.mark.parametrize("name", ["LlamaForRewardModel", "LlamaForEmbedding"])
def test_a_head_that_is_not_known_is_not_counted(tmp_path: Path, name: str) -> None:
    spec = spec_of(tmp_path, {**FULL, "architectures": [name]})
    assert sizes(spec) == (131_072, 0)
    assert spec.parameters is None
    assert "the head of a class that ends in" in spec.not_counted[0]


@pytest.mark.parametrize(
    "name",
    [
        "LlamaForMaskedLM",
        "LlamaForAudioClassification",
        "LlamaForCausalLMEagle4",
        "LlamaForCausalLMMedusa",
        "LlamaForMultipleChoice",
    ],
)
def test_an_ending_that_is_not_known_is_refused(tmp_path: Path, name: str) -> None:
    assert f"ends in '{name[5:]}'" in refusal(tmp_path, {**FULL, "architectures": [name]})


@pytest.mark.parametrize(
    "name", ["LlamaBidirectionalModel", "LlamaDoubleHeadsModel", "LlamaVisionModel", "Llama"]
)
def test_another_model_is_refused_whatever_it_is_built_on(tmp_path: Path, name: str) -> None:
    if name == "Llama":
        assert sizes(spec_of(tmp_path, {**FULL, "architectures": [name]})) == (131_072, 0)
        return
    message = refusal(tmp_path, {**FULL, "architectures": [name]})
    assert "a model that changes another's code" in message


def test_labels_that_contradict_each_other_are_not_counted(tmp_path: Path) -> None:
    config = {**FULL, "architectures": ["LlamaForSequenceClassification"], "num_labels": 3}
    spec = spec_of(tmp_path, {**config, "id2label": {"0": "a", "1": "b"}})
    assert spec.parameters is None
    assert "contradict" in spec.not_counted[0]


def test_a_draft_that_lost_its_class_is_no_llama_of_its_size(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, {**FULL, "architectures": None, "draft_vocab_size": 32_000})
    assert spec.parameters is None


def test_the_tables_of_an_eagle3_draft_are_buffers(tmp_path: Path) -> None:
    """950,026,240 parameters of two bytes, 32,000 ids of eight and 128,256 flags of one."""
    config = {**FULL, "architectures": ["LlamaForCausalLMEagle3"], "num_hidden_layers": 1}
    spec = spec_of(tmp_path, {**config, "draft_vocab_size": 32_000})
    assert spec.parameters is not None
    assert spec.parameters.total == 950_026_240
    assert spec.weights_bytes == 2 * 950_026_240 + 8 * 32_000 + 128_256
    assert any("draft" in note for note in spec.assumptions)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"num_hidden_layers": 2}, "draft of 2 layers"),
        ({"bias": True}, "bias is on"),
        ({"eagle_config": {"use_aux_hidden_state": False}}, "use_aux_hidden_state is off"),
        ({"architectures": ["EagleLlamaForCausalLM"]}, "implementations of EAGLE differ"),
    ],
)
def test_a_draft_that_is_built_otherwise_is_not_counted(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    config = {**FULL, "architectures": ["LlamaForCausalLMEagle3"], "num_hidden_layers": 1}
    spec = spec_of(tmp_path, {**config, "draft_vocab_size": 32_000, **change})
    assert reason in spec.not_counted[0]
    assert sizes(spec) == (4096 * change.get("num_hidden_layers", 1), 0)


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ({"target_hidden_size": 8192}, 3 * 8192),
        ({"num_aux_hidden_states": 2}, 2 * 4096),
        ({"eagle_config": {"eagle_aux_hidden_state_layer_ids": [1, 2, 3, 4]}}, 4 * 4096),
    ],
)
def test_what_an_eagle3_draft_sees_of_its_target(
    tmp_path: Path, change: dict[str, Any], seen: int
) -> None:
    """The projection's columns (vLLM 0.33.0 llama_eagle3.py:215); three states of 4,096 else."""
    config = {**FULL, "architectures": ["Eagle3LlamaForCausalLM"], "num_hidden_layers": 1}
    spec = spec_of(tmp_path, {**config, "draft_vocab_size": 32_000, **change})
    assert spec.parameters is not None
    assert spec.parameters.total == 950_026_240 + 4096 * (seen - 3 * 4096)


def test_an_eagle3_draft_of_qwen3s_layers(tmp_path: Path) -> None:
    """Queries and keys are normed, a layer may slide (vLLM 0.33.0 qwen3_eagle3.py)."""
    config = {**FULL, "architectures": ["Eagle3Qwen3ForCausalLM"], "model_type": "qwen3"}
    config |= {"num_hidden_layers": 1, "head_dim": 128, "draft_vocab_size": 32_000}
    spec = spec_of(tmp_path, {**config, "layer_types": ["sliding_attention"], "sliding_window": 64})
    assert spec.parameters is not None
    assert spec.parameters.total == 950_026_240 + 2 * 128
    assert sizes(spec) == (0, 64 * 4096)


def test_a_window_in_a_draft_that_has_none_is_refused(tmp_path: Path) -> None:
    config = {**FULL, "architectures": ["LlamaForCausalLMEagle3"], "num_hidden_layers": 1}
    message = refusal(tmp_path, {**config, "sliding_window": 4096, "use_sliding_window": True})
    assert "sliding_window is set" in message


@pytest.mark.parametrize(
    ("model_type", "text_type"),
    [
        ("exaone4_5", "exaone4_5_text"),
        ("fast_vlm", "qwen2"),
        ("idefics2", None),
        ("lighton_ocr", "qwen3"),
        ("NemotronH_Omni_Reasoning_V3", "llama"),
        ("qianfan_ocr", None),
        ("video_llava", "llama"),
    ],
)
def test_a_wrapper_of_another_familys_text_model(
    tmp_path: Path, model_type: str, text_type: str | None
) -> None:
    """Two layers of 2 x 2 heads x 16 x 2 B."""
    text: dict[str, Any] = {
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    text |= {"head_dim": 16, "hidden_size": 64, "sliding_window": None}
    text |= {"layer_types": ["full_attention"] * 2, "model_type": text_type}
    section = "llm_config" if model_type.startswith("Nemotron") else "text_config"
    assert sizes(spec_of(tmp_path, {"model_type": model_type, section: text})) == (256, 0)


@pytest.mark.parametrize(
    ("model_type", "name"),
    [
        ("mimo_v2", "MiMoV2ForCausalLM"),
        ("mimo_v2", "MiMoV2OmniForCausalLM"),
        ("mimo_v2_omni", "MiMoV2OmniForCausalLM"),
    ],
)
def test_mimo_under_its_later_names(tmp_path: Path, model_type: str, name: str) -> None:
    """llama.cpp logs 5,760 MiB of 262,144 cells on 9 layers, 828.75 MiB of 4,352 on 39 (#22493)."""
    config: dict[str, Any] = {"model_type": model_type, "architectures": [name]}
    for prefix, kv in (("", 4), ("swa_", 8)):
        config |= {f"{prefix}num_attention_heads": 64, f"{prefix}num_key_value_heads": kv}
        config |= {f"{prefix}head_dim": 192, f"{prefix}v_head_dim": 128}
    config |= {"hidden_size": 4096, "num_hidden_layers": 48, "sliding_window": 128}
    config["hybrid_layer_pattern"] = [int(i % 6 != 0 and i != 47) for i in range(48)]
    per_token, window = 5_760 * 2**20 // 262_144, 828.75 * 2**20 / 4_352 * 128
    assert sizes(spec_of(tmp_path, config)) == (per_token, window)


@pytest.mark.parametrize(
    ("model_type", "name", "more"),
    [
        ("telechat3", "TeleChat3ForCausalLM", 0),
        ("xverse", "XverseForCausalLM", 0),
        ("aquila", "AquilaModel", 0),
        ("orion", "OrionForCausalLM", 65 * 4096),
    ],
)
def test_llama_under_another_name(tmp_path: Path, model_type: str, name: str, more: int) -> None:
    """Llama's parameters; a LayerNorm has a bias beside its weight."""
    spec = spec_of(tmp_path, {**FULL, "model_type": model_type, "architectures": [name]})
    assert sizes(spec) == (131_072, 0)
    assert spec.parameters is not None
    assert spec.parameters.total == 8_030_261_248 + more


def test_the_text_class_of_a_model_with_a_tower_has_none(tmp_path: Path) -> None:
    """MllamaForCausalLM (transformers 5.24.0) of MllamaConfig() has 9,775,192,080 parameters."""
    name = "meta-llama/Llama-3.2-11B-Vision-Instruct"
    spec = spec_of(tmp_path, changed(name, {"architectures": ["MllamaForCausalLM"]}))
    assert spec.parameters is not None
    assert spec.parameters.total == 9_775_192_080
    assert any("no tower is counted" in note for note in spec.assumptions)


def test_parts_of_a_class_name() -> None:
    parts = [class_name(name) for name in ("Qwen2_5_VLForConditionalGeneration", "GPT2LMHeadModel")]
    assert [(part.stem, part.ending) for part in parts] == [
        ("qwen25vl", "ForConditionalGeneration"),
        ("gpt2", "LMHeadModel"),
    ]
    assert class_name("InternVLChatModel").task is class_name("LlamaForCausalLM").task
    assert class_name("ChatGLMModel").task is class_name("LlamaForCausalLM").task
