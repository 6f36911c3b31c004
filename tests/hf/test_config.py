"""A config.json is read strictly: bad files are named with their line, no figure is converted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kvplan.errors import SpecError
from kvplan.hf import read_config
from tests.hf.configs import LLAMA, refusal, sizes, spec_of

BAD_FILES: list[tuple[str, bytes, str]] = [
    ("truncated", b'{"model_type": "llama",\n "hidden', ":2: not JSON"),
    ("duplicate", b'{"model_type": "x", "a": 1,\n "a": 2}', ":2: 'a' is given twice"),
    ("list", b"[1]", ":1: has to be a JSON object"),
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
    """What is not a config.json at all is a bad file: exit code 2."""
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


@pytest.mark.parametrize("path", ["no\0file", "long" * 2_000])
def test_a_path_that_no_file_can_have(path: str) -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        read_config(path)


def test_infinity_counts_only_where_it_is_used(tmp_path: Path) -> None:
    """Nemotron files hold Infinity in keys that size nothing."""
    text = json.dumps({**LLAMA, "time_step_limit": [0.0, float("inf")]})
    assert sizes(spec_of(tmp_path, text)) == (131_072, 0)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"num_hidden_layers": None}, "num_hidden_layers is missing"),
        ({"num_hidden_layers": True}, "whole number, not true"),
        ({"num_hidden_layers": "32"}, "whole number, not '32'"),
        ({"num_hidden_layers": 32.0}, "whole number, not 32.0"),
        ({"num_hidden_layers": float("nan")}, "whole number, not nan"),
        ({"num_hidden_layers": -1}, "num_hidden_layers is -1; it has to be 1 to 10000"),
        ({"num_hidden_layers": 10**18}, "1 to 10000"),
        ({"num_hidden_layers": 10**400}, "a number of more than 20 digits"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0"),
        ({"num_key_value_heads": 5}, "cannot share 5 KV heads evenly"),
        ({"hidden_size": 4097}, "hidden_size (4097) is not a multiple of num_attention_heads (32)"),
        ({"attention_bias": "yes"}, "attention_bias has to be true or false, not 'yes'"),
        ({"layer_types": ["full_attention"] * 10_001}, "10,001 entries, more than 10,000"),
        (
            {"layer_types": ["full_attention", 1]},
            "layer_types has to be a list of texts, but entry 1 is 1",
        ),
        ({"model_type": 1}, "model_type has to be text, not 1"),
        ({"quantization_config": [1]}, "quantization_config has to be an object, not a list of 1"),
        (
            {"max_position_embeddings": 8192, "torch_dtype": "bfloat16", "dtype": "float16"},
            "dtype is 'float16', but torch_dtype, which means the same, is 'bfloat16'",
        ),
    ],
)
def test_figures_are_taken_as_they_are_or_refused(
    tmp_path: Path, keys: dict[str, Any], message: str
) -> None:
    assert message in refusal(tmp_path, {**LLAMA, **keys})
