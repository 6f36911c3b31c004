"""kvplan import and config.json files wherever a model name stands."""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest

import kvplan
from kvplan import hf
from kvplan.errors import RefusedError, UsageError
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


def test_a_known_architecture_is_not_changed_by_an_assumption(checkpoint: Path) -> None:
    assert kvplan.load(checkpoint, assume="mla") == kvplan.load(checkpoint)


def test_a_folder_without_a_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no config\.json"):
        kvplan.load(str(tmp_path))


def test_a_file_that_cannot_be_written_leaves_nothing(checkpoint: Path, tmp_path: Path) -> None:
    result = kvplan_command("import", str(checkpoint), "-o", str(tmp_path / "no" / "spec.yaml"))
    assert result.returncode == 2
    assert "cannot be written" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my-llama"]


@pytest.mark.parametrize("arguments", [(), ("x", "--from-hub", "a/b")])
def test_either_a_path_or_a_repository(arguments: tuple[str, ...]) -> None:
    assert kvplan_command("import", *arguments).returncode == 2


class _EntryNotFoundError(Exception):
    pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, checkpoint: Path) -> list[tuple[str, str, str | None]]:
    """A stand-in for huggingface_hub that has config.json and nothing else."""
    asked: list[tuple[str, str, str | None]] = []

    def hf_hub_download(repository: str, file: str, *, revision: str | None) -> str:
        asked.append((repository, file, revision))
        if repository == "nobody/nothing":
            raise OSError("no such repository\nwith a second line")
        if file != "config.json":
            raise _EntryNotFoundError(file)
        return str(checkpoint / file)

    package = types.ModuleType("huggingface_hub")
    errors = types.ModuleType("huggingface_hub.errors")
    package.hf_hub_download = hf_hub_download  # type: ignore[attr-defined]
    errors.EntryNotFoundError = _EntryNotFoundError  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", package)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
    return asked


def test_only_two_small_files_are_fetched(hub: list[tuple[str, str, str | None]]) -> None:
    path = hf.fetched_config("org/model@abc123")
    assert hub == [
        ("org/model", "config.json", "abc123"),
        ("org/model", "hf_quant_config.json", "abc123"),
    ]
    spec, _ = hf.read_config(path, repository="org/model@abc123")
    assert spec.name == "org/model"
    assert "org/model@abc123" in spec.source


@pytest.mark.parametrize("name", ["nobody/nothing", "no-slash", "a/b/c", "../x/y"])
def test_what_cannot_be_fetched_is_said_in_one_line(
    hub: list[tuple[str, str, str | None]], name: str
) -> None:
    with pytest.raises(UsageError) as caught:
        hf.fetched_config(name)
    assert "\n" not in caught.value.message
    assert all(repository == "nobody/nothing" for repository, _, _ in hub)


def test_without_the_extra_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UsageError) as caught:
        hf.fetched_config("org/model")
    assert "kvplan[hub]" in str(caught.value.hint)


def test_a_contradiction_is_refused_and_not_guessed_at(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**LLAMA, "num_key_value_heads": 5}))
    with pytest.raises(RefusedError, match="cannot share 5 KV heads"):
        kvplan.load(path)


GEMMA4 = {
    "model_type": "gemma4_text",
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "sliding_window": 1024,
    "num_kv_shared_layers": 0,
    "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 2,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}


def imported(tmp_path: Path, config: dict[str, Any]) -> kvplan.ModelSpec:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    return kvplan.load(path)


def test_a_file_saved_by_transformers_pads_its_layer_indices(tmp_path: Path) -> None:
    """Two full layers of 2 KV heads x 512, key and value, in bf16."""
    heads = {"head_dim": 512, "num_key_value_heads": 2}
    spec = imported(tmp_path, {**GEMMA4, "per_layer_config": {"05": heads, "11": heads}})
    assert kvplan.footprint(spec, 131_072).bytes_per_token == 2 * (2 * 2 * 512 * 2)


def test_gemma3_without_head_dim_is_refused(tmp_path: Path) -> None:
    """The class's constant, 256, is not hidden over heads."""
    config = {**LLAMA, "model_type": "gemma3_text", "architectures": ["Gemma3ForCausalLM"]}
    with pytest.raises(RefusedError, match="head_dim"):
        imported(tmp_path, {**config, "sliding_window": 512})


def test_falcon_mamba_is_as_wide_as_it_says(tmp_path: Path) -> None:
    """tiiuae/falcon-mamba-7b: 8,192 inside, whatever ``expand`` says; 7.27B as published."""
    spec = imported(
        tmp_path,
        {
            "model_type": "falcon_mamba",
            "architectures": ["FalconMambaForCausalLM"],
            "hidden_size": 4096,
            "intermediate_size": 8192,
            "expand": 16,
            "state_size": 16,
            "conv_kernel": 4,
            "num_hidden_layers": 64,
            "time_step_rank": 256,
            "use_bias": False,
            "use_conv_bias": True,
            "tie_word_embeddings": False,
            "vocab_size": 65024,
            "torch_dtype": "bfloat16",
        },
    )
    assert kvplan.footprint(spec, 1).fixed_bytes_per_sequence == 64 * 8192 * (3 * 2 + 16 * 4)
    assert spec.parameters is not None
    assert spec.parameters.total == 7_272_665_088


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
    with pytest.raises(RefusedError, match=r"sliding_window|layer_types"):
        imported(tmp_path, flat)


def test_weights_are_counted_by_part(checkpoint: Path) -> None:
    """Llama-3-8B: 8,030,261,248 parameters, as published."""
    spec = kvplan.load(checkpoint)
    assert spec.parameters is not None
    assert (spec.parameters.total, spec.weights_bytes) == (8_030_261_248, 16_060_522_496)
    assert {row.part for row in spec.weights} == {
        "embedding",
        "lm_head",
        "attention",
        "dense_mlp",
        "norm",
    }


def test_a_part_that_cannot_be_counted_is_named_in_every_answer(tmp_path: Path) -> None:
    llava = {**LLAMA, "architectures": ["LlavaLlamaForCausalLM"], "mm_vision_tower": "openai/clip"}
    spec = imported(tmp_path, {**llava, "model_type": "llava"})
    assert spec.parameters is None
    assert spec.weights_bytes == 16_060_522_496
    result = kvplan_command("compare", str(tmp_path / "config.json"))
    assert "weights leave out what could not be counted: vision tower" in result.stderr


def test_bytes_that_the_file_leaves_open_are_said_to_be(tmp_path: Path) -> None:
    """A quantisation whose layout no key tells: no bytes, so no GPU count, and the reason."""
    config = {**LLAMA, "quantization_config": {"quant_method": "awq", "bits": 4}}
    spec = imported(tmp_path, config)
    assert spec.parameters is not None
    assert spec.weights_bytes is None
    assert any("weights in bytes are not known" in text for text in spec.assumptions)
