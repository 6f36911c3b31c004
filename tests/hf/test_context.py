"""The native context: what a file declares, stretched by YaRN, linear or dynamic scaling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import kvplan
from kvplan.hf import read_config
from tests.hf.configs import HEADS, LLAMA, refusal, spec_of, write

POSITIONS = "max_position_embeddings"
ORIGINAL = "original_max_position_embeddings"


def scaled(kind: str, factor: object = None, original: int | None = None) -> dict[str, Any]:
    figures = {"factor": factor, ORIGINAL: original}
    return {"rope_type": kind, **{key: value for key, value in figures.items() if value}}


@pytest.mark.parametrize(
    ("keys", "tokens"),
    [
        ({POSITIONS: 8192, "model_max_length": 131072}, 131_072),  # Command-R
        ({POSITIONS: 32768, "seq_length": 8192}, 8_192),  # Qwen-7B
        ({POSITIONS: None}, None),
        # Qwen3's and Qwen2.5's model cards: 4 x 32,768
        ({POSITIONS: 40960, "rope_scaling": scaled("yarn", 4.0, 32768)}, 131_072),
        (
            {POSITIONS: 32768, "rope_scaling": {"type": "yarn", "factor": 4.0, ORIGINAL: 32768}},
            131_072,
        ),
        ({POSITIONS: 262144, "rope_parameters": scaled("yarn", 4.0, 262144)}, 1_048_576),
        ({POSITIONS: 40960, ORIGINAL: 32768, "rope_scaling": scaled("yarn", 4)}, 131_072),
        # files whose positions are the stretched ones: DeepSeek-V3, gpt-oss, TeleChat3
        ({POSITIONS: 163840, "rope_scaling": scaled("yarn", 40, 4096)}, 163_840),
        ({POSITIONS: 131072, "rope_scaling": scaled("yarn", 32.0, 4096)}, 131_072),
        ({POSITIONS: 32768, "rope_scaling": scaled("telechat3-yarn", 4.0, 8192)}, 32_768),
        ({POSITIONS: 4096, "rope_scaling": scaled("deepseek_yarn", 40, 4096)}, 163_840),
        # Vicuna-7B-v1.5-16k names its positions before the scaling and its length after it
        (
            {POSITIONS: 4096, "max_sequence_length": 16384, "rope_scaling": scaled("linear", 4.0)},
            16_384,
        ),
        ({POSITIONS: 32768, "rope_scaling": scaled("dynamic", 2.0)}, 65_536),  # InternLM2
        ({POSITIONS: 32768, "rope_scaling": scaled("dynamic", 1.0)}, 32_768),  # Hunyuan-A13B
        ({POSITIONS: 4096, "rope_scaling": scaled("linear", 2.5)}, 10_240),
        ({POSITIONS: 4096, "rope_scaling": scaled("linear", 1.1)}, 4_505),  # 4,505.6
        ({POSITIONS: 4096, "model_max_length": 16384, "rope_scaling": scaled("linear", 4)}, 16_384),
        # what stretches nothing beyond the positions of the file
        ({POSITIONS: 131072, "rope_scaling": scaled("llama3", 8.0, 8192)}, 131_072),
        ({POSITIONS: 131072, "rope_scaling": scaled("longrope", 32.0, 4096)}, 131_072),
        ({POSITIONS: 131072, "rope_scaling": {"type": "su", "factor": 32.0}}, 131_072),
        ({POSITIONS: 32768, "rope_scaling": {"type": "mrope", "rope_type": "default"}}, 32_768),
        ({POSITIONS: 32768, "rope_parameters": scaled("proportional", 2.0)}, 32_768),
        ({POSITIONS: 32768, "rope_scaling": scaled("linear")}, 32_768),
        ({POSITIONS: 32768, "rope_scaling": {}, "rope_parameters": None}, 32_768),
        # one object for each type of layer, as transformers 5 writes them: Laguna, and a longer one
        (
            {
                POSITIONS: 262144,
                "rope_parameters": {
                    "full_attention": scaled("yarn", 32.0, 8192),
                    "sliding_attention": scaled("default"),
                },
            },
            262_144,
        ),
        (
            {
                POSITIONS: 65536,
                "rope_parameters": {
                    "sliding_attention": scaled("default"),
                    "full_attention": scaled("yarn", 8.0, 65536),
                },
            },
            524_288,
        ),
    ],
)
def test_native_context(tmp_path: Path, keys: dict[str, Any], tokens: int | None) -> None:
    """The file's own declaration (rope types of transformers 5.24.0 and vLLM 0.33.0)."""
    spec = spec_of(tmp_path, {**LLAMA, **keys})
    assert (spec.native_context_tokens, spec.assumptions) == (tokens, ())


@pytest.mark.parametrize("level", ["text_config", None])
def test_the_scaling_may_stand_at_either_level(tmp_path: Path, level: str | None) -> None:
    scaling = {"rope_parameters": scaled("yarn", 4.0, 32768)}
    text = {"model_type": "llama", **HEADS, "num_hidden_layers": 3, POSITIONS: 40960}
    config = {"model_type": "llava", "architectures": ["LlavaForConditionalGeneration"]}
    nested = {**text, **scaling} if level else text
    around = {} if level else scaling
    spec = spec_of(tmp_path, {**config, "text_config": nested, **around})
    assert spec.native_context_tokens == 131_072


def test_the_scaling_may_stand_between_the_levels(tmp_path: Path) -> None:
    text = {"model_type": "qwen2_5_omni_text", **HEADS, "num_hidden_layers": 3, POSITIONS: 32768}
    thinker = {"text_config": text, "rope_scaling": scaled("yarn", 4.0, 32768)}
    config = {"model_type": "qwen2_5_omni", "thinker_config": thinker}
    assert spec_of(tmp_path, config).native_context_tokens == 131_072


@pytest.mark.parametrize("nested", [False, True])
def test_gemma_3_names_the_stretched_context(tmp_path: Path, nested: bool) -> None:
    """Linear by 8, which vLLM 0.33.0 skips for every gemma3 (config/model.py:2603)."""
    linear = scaled("linear", 8.0)
    ropes = {"full_attention": linear, "sliding_attention": scaled("default")}
    text = {
        "model_type": "gemma3_text",
        **HEADS,
        "num_hidden_layers": 6,
        "sliding_window": 512,
        POSITIONS: 131072,
        "sliding_window_pattern": 6,
        **({"rope_parameters": ropes} if nested else {"rope_scaling": linear}),
    }
    assert spec_of(tmp_path, text).native_context_tokens == 131_072


def test_a_context_names_its_working(tmp_path: Path) -> None:
    config = {**LLAMA, POSITIONS: 40960, "rope_scaling": scaled("yarn", 4.0, 32768)}
    _, provenance = read_config(write(tmp_path, config))
    assert provenance["native_context_tokens",] == (
        "rope_scaling.factor (4) × rope_scaling.original_max_position_embeddings (32,768)"
    )


@pytest.mark.parametrize(
    ("keys", "tokens", "note"),
    [
        # transformers 5.24.0 standardize_rope_params takes the file's positions as the original's
        (scaled("yarn", 4.0), 131_072, "is missing: max_position_embeddings (32,768) is taken"),
        (scaled("novel", 4.0), 32_768, "rope_type 'novel' with factor 4 is not known"),
    ],
)
def test_what_a_scaling_leaves_open_is_said(
    tmp_path: Path, keys: dict[str, Any], tokens: int, note: str
) -> None:
    spec = spec_of(tmp_path, {**LLAMA, POSITIONS: 32768, "rope_scaling": keys})
    assert spec.native_context_tokens == tokens
    assert note in spec.assumptions[0]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"rope_scaling": scaled("linear", "4")},
            "rope_scaling.factor has to be a possible factor",
        ),
        (
            {"rope_scaling": scaled("linear", -2.0)},
            "rope_scaling.factor has to be a possible factor",
        ),
        (
            {"rope_scaling": scaled("linear", True)},
            "rope_scaling.factor has to be a possible factor",
        ),
        ({"rope_scaling": scaled("linear", 1e300)}, "factor has to be a possible factor"),
        ({"rope_scaling": scaled("linear", 10**400)}, "factor has to be a possible factor"),
        ({"rope_scaling": scaled("linear", 1e12)}, "max_position_embeddings is more than"),
        ({"rope_scaling": [4.0]}, "rope_scaling has to be an object"),
        ({"rope_scaling": {"type": "yarn", "rope_type": "linear"}}, "type is yarn, but"),
        (
            {ORIGINAL: 4096, "rope_scaling": scaled("yarn", 4.0, 32768)},
            "rope_scaling.original_max_position_embeddings is 32,768, but",
        ),
    ],
)
def test_a_scaling_that_cannot_be_is_refused(
    tmp_path: Path, keys: dict[str, Any], message: str
) -> None:
    assert message in refusal(tmp_path, {**LLAMA, **keys})


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"rope_scaling_factor": 4.0}, "rope_scaling_factor is 4.0, and nothing here reads it"),
        ({"rotary_scaling_factor": 2}, "rotary_scaling_factor is 2, and nothing here reads it"),
    ],
)
def test_a_factor_that_nobody_reads_is_named(
    tmp_path: Path, keys: dict[str, Any], said: str
) -> None:
    assert any(said in note for note in spec_of(tmp_path, {**LLAMA, **keys}).assumptions)


def test_a_scaling_around_one_that_counts_is_named(tmp_path: Path) -> None:
    """Of the two, transformers 5.24.0 reads text_config alone."""
    inner = {**LLAMA, POSITIONS: 32768, "rope_scaling": {"type": "default"}}
    outer = {"rope_scaling": scaled("yarn", 4.0, 32768)}
    spec = spec_of(tmp_path, {"model_type": "llava", "text_config": inner, **outer})
    assert spec.native_context_tokens == 32_768
    said = "rope_scaling is not counted: text_config.rope_scaling goes before it"
    assert said in spec.assumptions


def test_a_plan_goes_to_the_declared_context(tmp_path: Path) -> None:
    """14.8 billion parameters and 131,072 x 163,840 B are 46 GiB of an H100's 79."""
    keys = {"num_hidden_layers": 40, "num_attention_heads": 40, "head_dim": 128}
    widths = {"hidden_size": 5120, "intermediate_size": 17408, "vocab_size": 151936}
    scaling = {POSITIONS: 40960, "rope_scaling": scaled("yarn", 4.0, 32768)}
    spec = spec_of(tmp_path, {**LLAMA, **keys, **widths, **scaling})
    plan = kvplan.plan(spec, gpu="h100", gpus=1, sequences=1)
    assert plan.fits
    assert plan.context_tokens == 131_072
