"""kvplan import and config.json files wherever a model name stands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import kvplan
from kvplan.errors import UsageError
from kvplan.hf.assumed import KINDS
from tests.command_line import kvplan as kvplan_command

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "max_position_embeddings": 8192,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
UNKNOWN = {**LLAMA, "model_type": "zork", "architectures": ["ZorkForCausalLM"], "head_dim": 128}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "my-llama"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA))
    return folder


def test_a_folder_or_its_file_goes_wherever_a_name_goes(checkpoint: Path) -> None:
    for path in (checkpoint, checkpoint / "config.json"):
        spec = kvplan.load(str(path))
        assert spec.name == "my-llama"
        assert kvplan.footprint(spec, 8192).bytes_per_token == 131_072


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no config\.json"):
        kvplan.load(str(tmp_path))


def test_the_spec_that_is_written_is_read_back_equal(checkpoint: Path, tmp_path: Path) -> None:
    written = tmp_path / "spec.yaml"
    result = kvplan_command("import", str(checkpoint), "-o", str(written))
    assert (result.returncode, result.stdout) == (0, "")
    assert kvplan.load(written) == kvplan.load(checkpoint)
    assert "num_key_value_heads: 8  # key: num_key_value_heads" in written.read_text()


def test_without_a_file_the_spec_goes_to_stdout(checkpoint: Path) -> None:
    assert kvplan_command("import", str(checkpoint)).stdout.startswith("name: my-llama\n")
    document = json.loads(kvplan_command("import", str(checkpoint), "--json").stdout)
    assert document["provenance"]["groups.0.caches.0.num_key_value_heads"] == "num_key_value_heads"
    assert document["bytes_per_token"] == 131_072


def test_an_unknown_architecture_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(UNKNOWN))
    result = kvplan_command("show", str(path))
    assert (result.returncode, result.stdout) == (3, "")
    for part in ("ZorkForCausalLM", "not known", "YAML spec", "--assume kind="):
        assert part in result.stderr


def test_an_assumption_is_made_only_when_asked_for_and_always_said(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(UNKNOWN))
    result = kvplan_command("show", str(path), "--assume", "kind=full_attention", "--json")
    document = json.loads(result.stdout)
    assert document["bytes_per_token"] == 131_072
    assert "--assume: every layer of ZorkForCausalLM keeps full_attention" in document["warnings"]
    for wrong, code in (("kind=mla", 3), ("kind=magic", 2), ("mla", 2)):
        assert kvplan_command("show", str(path), "--assume", wrong).returncode == code
    said = kvplan_command("show", str(path), "--assume", "mla").stderr
    assert all(kind in said for kind in KINDS)


@pytest.mark.parametrize("model", ["qwen3-8b", "Qwen/Qwen3-8B"])
def test_a_kind_that_there_is_not_is_refused_for_known_models_too(model: str) -> None:
    with pytest.raises(kvplan.UsageError, match="kind=magic is not possible"):
        kvplan.load(model, assume="magic")


def test_the_name_of_a_model_is_no_file() -> None:
    result = kvplan_command("import", "Qwen3-8B")
    assert (result.returncode, result.stdout) == (2, "")
    assert "kvplan show Qwen3-8B" in result.stderr


def test_a_known_architecture_is_not_changed_by_an_assumption(checkpoint: Path) -> None:
    assert kvplan.load(checkpoint, assume="mla") == kvplan.load(checkpoint)


def test_a_file_that_cannot_be_written_leaves_nothing(checkpoint: Path, tmp_path: Path) -> None:
    result = kvplan_command("import", str(checkpoint), "-o", str(tmp_path / "no" / "spec.yaml"))
    assert result.returncode == 2
    assert "cannot be written" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my-llama"]


@pytest.mark.parametrize("arguments", [(), ("x", "--from-hub", "a/b")])
def test_either_a_path_or_a_repository(arguments: tuple[str, ...]) -> None:
    assert kvplan_command("import", *arguments).returncode == 2


def test_a_part_that_cannot_be_counted_is_named_in_every_answer(tmp_path: Path) -> None:
    llava = {**LLAMA, "architectures": ["LlavaLlamaForCausalLM"], "mm_vision_tower": "openai/clip"}
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**llava, "model_type": "llava"}))
    spec = kvplan.load(path)
    assert spec.parameters is not None
    assert (spec.parameters.total, spec.parameters.language) == (None, 8_030_261_248)
    assert spec.weights_bytes == 16_060_522_496
    result = kvplan_command("compare", str(path))
    assert "weights leave out what could not be counted: vision tower" in result.stderr
