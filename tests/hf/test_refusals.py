"""What is not known is refused by name, and a bad file with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kvplan.errors import RefusedError, SpecError
from kvplan.hf import read_config
from tests.hf.configs import HEADS, LLAMA, MLA, F, S, mixed, sizes, spec_of

REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("unknown", {**LLAMA, "model_type": "novel", "architectures": ["NovelForCausalLM"]}, "novel"),
    ("unknown wrapper", {"model_type": "novel_vl", "text_config": LLAMA}, "novel_vl"),
    ("no model_type", {"hidden_size": 64}, "num_attention_heads"),
    ("another class", {**LLAMA, "architectures": ["NovelForCausalLM"]}, "NovelForCausalLM"),
    ("missing layers", {**LLAMA, "num_hidden_layers": None}, "num_hidden_layers is missing"),
    ("layers true", {**LLAMA, "num_hidden_layers": True}, "whole number, not true"),
    ("layers text", {**LLAMA, "num_hidden_layers": "32"}, "whole number, not '32'"),
    ("layers float", {**LLAMA, "num_hidden_layers": 32.0}, "whole number"),
    ("layers negative", {**LLAMA, "num_hidden_layers": -1}, "1 to 10000"),
    ("layers absurd", {**LLAMA, "num_hidden_layers": 10**18}, "1 to 10000"),
    ("heads zero", {**LLAMA, "num_attention_heads": 0}, "num_attention_heads"),
    ("heads do not divide", {**LLAMA, "num_key_value_heads": 5}, "evenly"),
    ("no whole head", {**LLAMA, "hidden_size": 4097}, "not a multiple"),
    ("window unasked", {**LLAMA, "sliding_window": 4096}, "sliding_window is 4096"),
    ("latent unasked", {**LLAMA, "kv_lora_rank": 512}, "kv_lora_rank"),
    ("sharing unasked", {**LLAMA, "num_kv_shared_layers": 4}, "num_kv_shared_layers"),
    ("layer plan unasked", {**LLAMA, "layer_types": [S] * 32}, "layer_types"),
    ("dtype", {**LLAMA, "torch_dtype": "float8_e4m3fn"}, "float8_e4m3fn"),
    ("encoder and decoder", {**LLAMA, "is_encoder_decoder": True}, "is_encoder_decoder"),
    ("t5", {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}, "t5"),
    (
        "window not said",
        {**LLAMA, "architectures": None, "model_type": "mistral"},
        "sliding_window is missing",
    ),
    (
        "unknown layer type",
        {"model_type": "gemma2", **mixed(S, "novel_attention"), "sliding_window": 9},
        "novel_attention",
    ),
    (
        "too few types",
        {"model_type": "gemma2", **mixed(S, F), "num_hidden_layers": 3, "sliding_window": 9},
        "2 entries for 3 layers",
    ),
    ("no window for it", {"model_type": "gemma2", **mixed(S, F)}, "sliding_window is missing"),
    (
        "pattern contradicts",
        {
            "model_type": "cohere2",
            **mixed(S, S, S, F),
            "sliding_window": 9,
            "sliding_window_pattern": 2,
        },
        "contradict",
    ),
    (
        "off and sliding",
        {
            **LLAMA,
            "architectures": None,
            "model_type": "qwen2",
            "use_sliding_window": False,
            "layer_types": [S] * 32,
        },
        "is off",
    ),
    (
        "kda lists",
        {
            "model_type": "kimi_linear",
            "num_hidden_layers": 2,
            **MLA,
            "linear_attn_config": {"full_attn_layers": [1], "kda_layers": [0]},
        },
        "once",
    ),
    (
        "v4 ratio",
        {
            "model_type": "deepseek_v4",
            "num_hidden_layers": 1,
            "head_dim": 512,
            "compress_ratios": [2],
        },
        "compresses by 2",
    ),
    (
        "m2 with lightning",
        {"model_type": "minimax_m2", **HEADS, "num_hidden_layers": 1, "attn_type_list": [0]},
        "lightning",
    ),
    (
        "cla and mla",
        {"model_type": "hunyuan", **HEADS, "num_hidden_layers": 1, "use_mla": True},
        "use_mla",
    ),
    (
        "windowed nas block",
        {
            "model_type": "nemotron-nas",
            "num_hidden_layers": 1,
            "hidden_size": 64,
            "num_attention_heads": 8,
            "block_configs": [{"attention": {"n_heads_in_group": 4, "window_length": 9}}],
        },
        "window_length",
    ),
    (
        "int8 cache",
        {**LLAMA, "quantization_config": {"kv_cache_scheme": {"num_bits": 8, "type": "int"}}},
        "8 bits of 'int'",
    ),
    ("unknown cache", {**LLAMA, "quantization_config": {"kv_cache_quant_algo": "INT3"}}, "INT3"),
    ("unknown cache key", {**LLAMA, "quantization_config": {"kv_cache_bits": 2}}, "kv_cache_bits"),
    ("nan", {**LLAMA, "num_hidden_layers": float("nan")}, "whole number"),
]


@pytest.mark.parametrize(
    ("config", "message"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_refused_by_name(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    """What is not known is refused with exit code 3, the file, the reason and a way out."""
    with pytest.raises(RefusedError) as caught:
        spec_of(tmp_path, config)
    assert message in caught.value.message
    assert "config.json" in caught.value.message
    assert "YAML spec" in (caught.value.hint or "")
    assert caught.value.exit_code == 3


BAD_FILES: list[tuple[str, bytes, str]] = [
    ("truncated", b'{"model_type": "llama",\n "hidden', ":2: not JSON"),
    ("duplicate", b'{"a": 1,\n "a": 2}', ":2: 'a' is given twice"),
    ("list", b"[1]", ":1: a config.json is a JSON object"),
    ("empty", b" ", "empty"),
    ("binary", b"\x80\x04\x95", "not a text file"),
    ("deep", b"[" * 100_000, "nested too deeply"),
    ("digits", b'{"a": ' + b"9" * 5_000 + b"}", "not JSON"),
    ("large", b" " * ((16 << 20) + 1), "larger than"),
]


@pytest.mark.parametrize(
    ("content", "message"), [row[1:] for row in BAD_FILES], ids=[row[0] for row in BAD_FILES]
)
def test_bad_file_is_named_with_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    """A file that is no config.json at all is a bad file: exit code 2."""
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(SpecError) as caught:
        read_config(path)
    assert message in caught.value.message
    assert str(path) in caught.value.message


def test_folder_without_a_config(tmp_path: Path) -> None:
    """A folder stands for the config.json in it."""
    with pytest.raises(SpecError, match=r"config\.json: cannot be read"):
        read_config(tmp_path)


def test_infinity_counts_only_where_it_is_used(tmp_path: Path) -> None:
    """Nemotron files hold Infinity in keys that size nothing."""
    text = json.dumps({**LLAMA, "time_step_limit": [0.0, float("inf")]})
    assert sizes(spec_of(tmp_path, text)) == (131_072, 0)
