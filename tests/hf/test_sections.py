"""Sections beside the text model that keep a cache of their own, and keys around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.hf.configs import HEADS, LLAMA, refusal, sizes, spec_of

THINKER = {
    "text_config": {
        "model_type": "qwen3_omni_moe_text",
        "hidden_size": 2048,
        "num_hidden_layers": 48,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "head_dim": 128,
    },
    "audio_config": {"num_hidden_layers": 32, "encoder_attention_heads": 20, "num_heads": 20},
}
TALKER = {
    "text_config": {
        "hidden_size": 1024,
        "num_hidden_layers": 20,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "head_dim": 128,
        "sliding_window": None,
    },
    "code_predictor_config": {
        "num_hidden_layers": 5,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "layer_types": ["full_attention"] * 5,
        "use_sliding_window": False,
    },
}
OMNI: dict[str, Any] = {
    "architectures": ["Qwen3OmniMoeForConditionalGeneration"],
    "model_type": "qwen3_omni_moe",
    "thinker_config": THINKER,
    "talker_config": TALKER,
    "code2wav_config": {"num_hidden_layers": 8, "num_attention_heads": 16},
    "dtype": "bfloat16",
}


def test_a_talker_is_named_with_its_bytes(tmp_path: Path) -> None:
    """A log of vllm-project/vllm-omni#1434: 37.18 GiB for 1,949,520 tokens, 20,478 B each."""
    spec = spec_of(tmp_path, OMNI)
    assert sizes(spec) == (98_304, 0)  # 48 x 2 x 4 x 128 x 2 B
    talker, predictor = spec.assumptions
    assert talker.startswith("talker_config.text_config keeps a cache of its own")
    assert talker.endswith("20 layers × 2 × 2 KV heads × 128 × 2 B = 20,480 B/token in bf16")
    assert predictor.startswith("talker_config.code_predictor_config keeps")
    assert "for the codes of one frame" in predictor
    assert "20,480 B/token" in predictor  # 5 x 2 x 8 x 128 x 2 B


def test_a_talker_that_is_switched_off_keeps_nothing(tmp_path: Path) -> None:
    """Qwen3OmniMoeConfig builds it where enable_audio_output is true (transformers 5.24.0)."""
    assert spec_of(tmp_path, {**OMNI, "enable_audio_output": False}).assumptions == ()


@pytest.mark.parametrize(
    ("name", "section", "note"),
    [
        # Qwen2.5-Omni-7B: 24 x 2 x 4 x 128 x 2 B; its window is off
        (
            "talker_config",
            {
                "num_hidden_layers": 24,
                "num_attention_heads": 12,
                "num_key_value_heads": 4,
                "head_dim": 128,
                "use_sliding_window": False,
                "sliding_window": 32768,
            },
            "49,152 B/token in bf16",
        ),
        ("talker_config", {"hidden_size": 1024}, "the file does not say how large it is"),
        (
            "talker_config",
            {
                "num_hidden_layers": 24,
                "num_attention_heads": 12,
                "num_key_value_heads": 4,
                "head_dim": 128,
                "sliding_window": 32768,
            },
            "the file does not say how large it is",
        ),
        # CSM-1B: 4 x 2 x 2 x 128 x 2 B
        (
            "depth_decoder_config",
            {
                "num_hidden_layers": 4,
                "num_attention_heads": 8,
                "num_key_value_heads": 2,
                "hidden_size": 1024,
                "head_dim": None,
            },
            "4,096 B/token in bf16",
        ),
        # without head_dim nobody says that it is not of another width
        (
            "depth_decoder_config",
            {
                "num_hidden_layers": 4,
                "num_attention_heads": 8,
                "num_key_value_heads": 2,
                "hidden_size": 1024,
            },
            "the file does not say how large it is",
        ),
        # MiniCPM-o's speech model
        (
            "tts_config",
            {"num_hidden_layers": 20, "num_attention_heads": 12, "hidden_size": 768},
            "tts_config keeps a cache of its own",
        ),
        (
            "novel_config",
            {"inner": {"num_layers": 20, "n_heads": 12}},
            "novel_config.inner has layers and heads: if it generates, its cache is not counted",
        ),
    ],
)
def test_a_section_that_may_generate_is_named(
    tmp_path: Path, name: str, section: dict[str, Any], note: str
) -> None:
    spec = spec_of(tmp_path, {**LLAMA, name: section})
    assert sizes(spec) == (131_072, 0)
    assert len(spec.assumptions) == 1
    assert spec.assumptions[0].startswith(name)
    assert note in spec.assumptions[0]


def test_a_talker_takes_the_defaults_of_its_class(tmp_path: Path) -> None:
    """Qwen2_5OmniTalkerConfig (transformers 5.24.0): 28 layers, 4 KV heads of 128, no window."""
    text = {"model_type": "qwen2_5_omni_text", **HEADS, "num_hidden_layers": 3}
    config = {
        "model_type": "qwen2_5_omni",
        "thinker_config": {"text_config": text},
        "talker_config": {"model_type": "qwen2_5_omni_talker", "num_hidden_layers": 24},
        "dtype": "bfloat16",
    }
    (talker,) = spec_of(tmp_path, config).assumptions
    assert "= 49,152 B/token in bf16, by defaults of Qwen2_5OmniTalkerConfig" in talker


@pytest.mark.parametrize(
    "name",
    ["vision_config", "audio_encoder_config", "token2wav_config", "vit_config", "qformer_config"],
)
def test_a_tower_keeps_nothing(tmp_path: Path, name: str) -> None:
    tower = {"num_hidden_layers": 24, "num_attention_heads": 16, "num_key_value_heads": 16}
    assert spec_of(tmp_path, {**LLAMA, name: tower}).assumptions == ()


LLAVA: dict[str, Any] = {
    "model_type": "llava",
    "architectures": ["LlavaForConditionalGeneration"],
    "text_config": {"model_type": "llama", **HEADS, "num_hidden_layers": 8},
    "dtype": "bfloat16",
}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sliding_window", 4096),
        ("layer_types", ["sliding_attention"] * 8),
        ("num_key_value_heads", 3),
        ("kv_lora_rank", 512),
        ("shares_with", [0, 0, 0, 0, 1, 1, 1, 1]),
    ],
)
def test_a_key_of_a_cache_around_the_text_model_is_refused(
    tmp_path: Path, key: str, value: object
) -> None:
    assert f"{key} is " in refusal(tmp_path, {**LLAVA, key: value})


def test_a_key_around_an_inner_section_is_refused(tmp_path: Path) -> None:
    thinker = {**THINKER, "sliding_window": 1024}
    message = refusal(tmp_path, {**OMNI, "thinker_config": thinker})
    assert "thinker_config.sliding_window is 1024, but thinker_config.text_config." in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_key_value_heads", 2),  # as in its section
        ("head_dim", 64),
        ("sliding_window", None),
        ("image_grid_pinpoints", [[1, 2]] * 8),
        ("vision_window_size", 7),
    ],
)
def test_a_key_around_the_text_model_that_says_nothing_new(
    tmp_path: Path, key: str, value: object
) -> None:
    assert sizes(spec_of(tmp_path, {**LLAVA, key: value})) == (8 * 512, 0)


@pytest.mark.parametrize("key", ["shares_with", "mixer", "attends_to"])
def test_an_unread_list_of_layers_is_refused(tmp_path: Path, key: str) -> None:
    message = refusal(tmp_path, {**LLAMA, key: [0] * 31 + [1]})
    assert f"{key} has an entry for each of 32 layers" in message


@pytest.mark.parametrize("key", ["layer_rope_theta", "mlp_layer_types", "no_rope_layers"])
def test_a_list_of_layers_that_changes_no_cache_is_taken(tmp_path: Path, key: str) -> None:
    assert sizes(spec_of(tmp_path, {**LLAMA, key: [1] * 32})) == (131_072, 0)


def test_a_key_of_the_wrappers_own_is_known(tmp_path: Path) -> None:
    """GraniteSpeechConfig (transformers 5.24.0) has a window of 15 frames for its projector."""
    text = {"model_type": "granite", **HEADS, "num_hidden_layers": 3}
    config = {"model_type": "granite_speech", "window_size": 15, "text_config": text}
    assert sizes(spec_of(tmp_path, config)) == (3 * 512, 0)


def test_a_key_of_a_cache_in_a_section_that_nobody_reads_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, {**LLAMA, "attention_config": {"window_size": 4096}})
    assert "attention_config.window_size is 4096: a key that can change the cache" in message


@pytest.mark.parametrize(
    ("name", "section"),
    [
        ("attention_config", {"window_size": None, "scale": 2}),
        # Qwen2.5-7B-Instruct-1M: positions of chunks, while every key is kept
        ("dual_chunk_attention_config", {"chunk_size": 262144, "local_size": 8192}),
        ("vision", {"head_dim": 64, "window_size": 14}),
    ],
)
def test_a_section_that_says_nothing_of_a_cache_is_taken(
    tmp_path: Path, name: str, section: dict[str, Any]
) -> None:
    spec = spec_of(tmp_path, {**LLAMA, name: section})
    assert (sizes(spec), spec.assumptions) == ((131_072, 0), ())
