"""Which family a config.json belongs to; what is not known is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.hf.configs import HEADS, LLAMA, S, refusal, sizes, spec_of


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {**LLAMA, "model_type": "novel", "architectures": ["NovelForCausalLM"]},
            "NovelForCausalLM: model_type 'novel': this architecture is not known; "
            "found: num_hidden_layers: 32, num_attention_heads: 32, num_key_value_heads: 8, ",
        ),
        ({"model_type": "novel_vl", "text_config": LLAMA}, "novel_vl"),
        ({"model_type": "llava", "text_config": {"model_type": "novel"}}, "model_type 'novel'"),
        ({"model_type": "llava"}, "text_config is missing"),
        ({"hidden_size": 64}, "no model_type: this architecture is not known"),
        ({**LLAMA, "architectures": ["NovelForCausalLM"]}, "architectures names 'NovelForCausal"),
        ({"model_type": "bert", "architectures": ["BertLMHeadModel"]}, "bert"),
    ],
)
def test_what_is_not_known_is_refused_by_name(
    tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    assert message in refusal(tmp_path, config)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sliding_window", 4096),
        ("kv_lora_rank", 512),
        ("num_kv_shared_layers", 4),
        ("layer_types", [S] * 32),
        ("is_encoder_decoder", True),
        ("swa_head_dim", 64),
        ("kv_\u2028heads", 4),
    ],
)
def test_a_key_of_another_cache_is_refused(tmp_path: Path, key: str, value: object) -> None:
    """Nobody has said what it does to a Llama."""
    assert key.replace("\u2028", "\\u2028") in refusal(tmp_path, {**LLAMA, key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [("sliding_window", None), ("sliding_window", 0), ("use_cla", False), ("kv_channels", [])],
)
def test_a_key_that_is_off_says_nothing(tmp_path: Path, key: str, value: object) -> None:
    assert sizes(spec_of(tmp_path, {**LLAMA, key: value})) == (131_072, 0)


def test_levels_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    """Step-3.7 saved anew: the flat keys slide, the nested defaults do not."""
    flat = {
        "model_type": "step3p7",
        "architectures": ["Step3p7ForConditionalGeneration"],
        "num_hidden_layers": 4,
        "sliding_window": 512,
        "layer_types": ["full_attention"] + ["sliding_attention"] * 3,
        "text_config": {"model_type": "step3p5", "num_hidden_layers": 4},
    }
    assert "sliding_window is 512, but text_config.sliding_window is null" in refusal(
        tmp_path, flat
    )


def test_a_text_model_inside_a_wrapper(tmp_path: Path) -> None:
    """Three layers of 512 B."""
    text = {"model_type": "llama", **HEADS, "num_hidden_layers": 3}
    config = {"model_type": "llava", "architectures": ["LlavaForConditionalGeneration"]}
    assert sizes(spec_of(tmp_path, {**config, "text_config": text})) == (3 * 512, 0)
