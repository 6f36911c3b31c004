"""The same model as each release of transformers saves it, and keys that a class fills in.

``generations.jsonl`` has small models as ``to_json_string`` of transformers 4.40.2 to 5.24.0
writes them, where releases differ, with what 5.24.0 makes of each file: parameters of its class on
the meta device, and the cache that it fills. The lines with a ``why`` are files that leave a key
to their class. Only keys that decide something are kept; no recurrent states.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kvplan.calc import footprint
from tests.hf.configs import refusal, spec_of
from tests.hf.models import MODELS, changed, spelt_out

_LINES = (Path(__file__).parent / "generations.jsonl").read_text(encoding="utf-8").splitlines()
FILES: dict[str, dict[str, Any]] = {
    f"{line['model']}, {line.get('releases') or line['why']}": line
    for line in map(json.loads, _LINES)
}


@pytest.mark.parametrize("name", FILES)
def test_the_cache_is_what_transformers_keeps(tmp_path: Path, name: str) -> None:
    file = FILES[name]
    whole = footprint(spec_of(tmp_path, spelt_out(file["config"])), 1_000, kv_cache_dtype="bf16")
    if "bytes_per_token" in file:
        assert whole.bytes_per_token == file["bytes_per_token"]
    if "fixed_bytes" in file:
        assert whole.fixed_bytes_per_sequence == file["fixed_bytes"]


@pytest.mark.parametrize("name", [name for name in FILES if "total" in FILES[name]])
def test_parameters_are_those_of_the_class(tmp_path: Path, name: str) -> None:
    parameters = spec_of(tmp_path, spelt_out(FILES[name]["config"])).parameters
    assert parameters is not None
    assert parameters.total == FILES[name]["total"]


MUSE = "muse-glimmer-nested-tie, the whole's tie_word_embeddings counts"
LLAVA = {
    "model_type": "llava",
    "text_config": {"model_type": "llama", "tie_word_embeddings": True, "vocab_size": 160},
}


def language(folder: Path, config: dict[str, Any]) -> int | None:
    parameters = spec_of(folder, config).parameters
    return parameters.of_language if parameters else None


def test_some_classes_pass_on_what_the_text_part_says(tmp_path: Path) -> None:
    """LlavaConfig of 5.24.0 does: LlamaConfig's own sizes without a head of 160 rows.

    By hand: 32 layers of 4 x 4096 x 4096 + 3 x 4096 x 11008 + 2 x 4096, a norm and an embedding.
    """
    layer = 4 * 4_096**2 + 3 * 4_096 * 11_008 + 2 * 4_096
    assert language(tmp_path, LLAVA) == 32 * layer + 4_096 + 160 * 4_096


def test_a_level_that_releases_read_apart_is_not_counted(tmp_path: Path) -> None:
    """Idefics3Config asks itself alone since release 5, the text part before."""
    spec = spec_of(tmp_path, {**LLAVA, "model_type": "idefics3"})
    assert spec.parameters is None
    assert "Idefics3Config (transformers 5.24.0) does not look at" in spec.not_counted[0]


def test_levels_of_a_class_of_release_5_are_read_as_it_does(tmp_path: Path) -> None:
    """The outer word goes before the nested one: 202,048 x 6,656 parameters of a head."""
    config = spelt_out(FILES[MUSE]["config"])
    tied = spec_of(tmp_path, {**config, "tie_word_embeddings": True}).parameters
    assert tied is not None
    assert tied.total == FILES[MUSE]["total"] - 202_048 * 6_656


def test_two_names_of_one_key_may_not_differ(tmp_path: Path) -> None:
    """Qwen3MoeConfig takes num_experts and num_local_experts for the same."""
    name = next(name for name in FILES if name.startswith("qwen3_moe k1") and "5.24.0" in name)
    config = {**spelt_out(FILES[name]["config"]), "num_experts": 5}
    assert "num_local_experts, which means the same, is 6" in refusal(tmp_path, config)


def test_a_flat_file_whose_releases_disagree_is_refused(tmp_path: Path) -> None:
    """4.57 reads the text's figures at the top, 5.24.0 has its class's own there."""
    name = next(name for name in FILES if name.startswith("glm-4.1v-9b-flat"))
    config = {**spelt_out(FILES[name]["config"]), "num_hidden_layers": 20}
    assert "4.57 reads num_hidden_layers 20" in refusal(tmp_path, config)


@pytest.mark.parametrize("key", ["first_k_dense_replace", "decoder_sparse_step"])
def test_dense_layers_that_the_class_does_not_read_are_not_counted(
    tmp_path: Path, key: str
) -> None:
    config = changed("laguna, small", {"mlp_layer_types": None, key: 2})
    spec = spec_of(tmp_path, config)
    assert spec.parameters is None
    assert key in spec.not_counted[0]


def test_experts_from_the_second_layer_on_are_the_class_default(tmp_path: Path) -> None:
    """LagunaConfig: the file says no more than its class would."""
    spec = spec_of(tmp_path, changed("laguna, small", {"mlp_layer_types": None}))
    assert spec.parameters is not None
    assert spec.parameters.total == MODELS["laguna, small"]["total"]


@pytest.mark.parametrize("model", ["stablelm, small", "gpt_neox, small"])
def test_a_head_dim_that_the_class_does_not_read_is_refused(tmp_path: Path, model: str) -> None:
    assert "head_dim is 24" in refusal(tmp_path, changed(model, {"head_dim": 24}))
