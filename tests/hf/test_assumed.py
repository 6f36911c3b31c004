"""--assume: which level of a file it reads, what it takes, what it says and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kvplan.errors import RefusedError, UsageError
from kvplan.hf import read_config
from kvplan.hf.assumed import KINDS
from kvplan.spec import ModelSpec
from tests.hf import models
from tests.hf.configs import LLAMA, MLA, F, L, S, refusal, sizes, spec_of, write
from tests.hf.sweep.class_defaults import FILE

UNKNOWN = {**LLAMA, "architectures": ["NovelForCausalLM"], "model_type": "novel"}
LATENT = {**MLA, "num_hidden_layers": 2, "max_position_embeddings": 8192, "model_type": "novel"}
TEXT = {key: UNKNOWN[key] for key in UNKNOWN if key not in ("architectures", "model_type")}
MIXED = {**UNKNOWN, "num_hidden_layers": 4, "layer_types": [S, F, S, F], "sliding_window": 100}


def assumed(folder: Path, config: dict[str, Any], kind: str) -> ModelSpec:
    return read_config(write(folder, config), kind)[0]


def unanswered(folder: Path, config: dict[str, Any], kind: str) -> str:
    with pytest.raises(RefusedError) as caught:
        assumed(folder, config, kind)
    assert caught.value.exit_code == 3
    return caught.value.message


@pytest.mark.parametrize(
    ("config", "kind", "per_token", "fixed"),
    [
        # 32 layers x 2 x 8 heads x 128 x 2 B, or windows of 100 tokens of these
        (UNKNOWN, "full_attention", 131_072, 0),
        ({**UNKNOWN, "sliding_window": 100}, "sliding_window", 0, 13_107_200),
        ({**UNKNOWN, "attention_window_size": 100}, "sliding_window", 0, 13_107_200),
        # keys of 128 and values of 64
        ({**UNKNOWN, "v_head_dim": 64}, "full_attention", 98_304, 0),
        # windows are full for an engine that has none
        (MIXED, "full_attention", 4 * 4096, 0),
        # two full layers of 4,096 B, two windows of 100 tokens
        (MIXED, "layer_types", 2 * 4096, 2 * 4096 * 100),
        # sliding layers with 4 KV heads of 64: 1,024 B
        (
            {**MIXED, "swa_num_key_value_heads": 4, "swa_head_dim": 64},
            "layer_types",
            2 * 4096,
            2 * 1024 * 100,
        ),
        # 2 layers x (512 + 64) x 2 B
        (LATENT, "mla", 2_304, 0),
        # no KV heads anywhere: one for each of 32
        ({k: v for k, v in UNKNOWN.items() if "key_value" not in k}, "full_attention", 524_288, 0),
        # OpenELM's spelling, a list a layer: (3 + 4) x 64 x 2 x 2 B
        (
            {
                "model_type": "novel",
                "num_transformer_layers": 2,
                "num_query_heads": [12, 16],
                "num_kv_heads": [3, 4],
                "head_dim": 64,
            },
            "full_attention",
            1_792,
            0,
        ),
    ],
)
def test_an_assumption_stands_in_for_an_unknown_architecture(
    tmp_path: Path, config: dict[str, Any], kind: str, per_token: float, fixed: int
) -> None:
    """Of its caches alone, and said with every answer."""
    spec = assumed(tmp_path, config, kind)
    assert sizes(spec) == (per_token, fixed)
    assert spec.parameters is None
    assert "an architecture that is not known" in spec.not_counted[0]
    assert any("--assume: " in note and kind in note for note in spec.assumptions)
    assert any("--assume took " in note for note in spec.assumptions)


@pytest.mark.parametrize(
    "around",
    [
        lambda text: {"text_config": text},
        lambda text: {"llm_config": text},
        lambda text: {"language_config": text},
        lambda text: {"thinker_config": {"text_config": text, "audio_config": TEXT}},
        lambda text: {"vision_config": {**TEXT, "num_hidden_layers": 9}, "text_config": text},
        lambda text: {**text, "text_config": text},
    ],
)
def test_the_level_that_describes_the_layers_is_found(tmp_path: Path, around: Any) -> None:
    config = {"model_type": "novel_vl", **around(dict(TEXT))}
    assert sizes(assumed(tmp_path, config, "full_attention")) == (131_072, 0)
    assert "num_hidden_layers: 32" in refusal(tmp_path, config)


def test_what_was_taken_and_what_was_left_is_said(tmp_path: Path) -> None:
    config = {"model_type": "omni", "thinker_config": {"text_config": {**MIXED, "use_sconv": True}}}
    config["talker_config"] = {"text_config": TEXT}
    spec, origins = read_config(write(tmp_path, config), "full_attention")
    said = "\n".join(spec.assumptions)
    prefix = "thinker_config.text_config."
    assert f"4 layers ({prefix}num_hidden_layers)" in said
    assert f"head_dim 128 ({prefix}hidden_size ÷ {prefix}num_attention_heads)" in said
    assert f"did not use {prefix}layer_types: a list of 4, {prefix}sliding_window: 100" in said
    assert "did not look at what talker_config keeps" in said
    assert (
        origins["groups", 0, "caches", 0, "num_key_value_heads"] == f"{prefix}num_key_value_heads"
    )


@pytest.mark.parametrize(
    ("config", "kind", "message"),
    [
        (UNKNOWN, "sliding_window", "no key gives the window"),
        ({**UNKNOWN, "window": 100}, "sliding_window", "no key gives the window"),
        (MIXED, "sliding_window", "layers that do not slide"),
        (
            {**UNKNOWN, "sliding_window": 9, "local_layer_ids": [1]},
            "sliding_window",
            "local_layer_ids is a list of 1: not every layer slides",
        ),
        (
            {**UNKNOWN, "sliding_window": 9, "use_sliding_window": False},
            "sliding_window",
            "use_sliding_window is off",
        ),
        ({**UNKNOWN, "sliding_window": 9, "window_size": 8}, "sliding_window", "means the same"),
        (UNKNOWN, "layer_types", "layer_types is missing"),
        ({**MIXED, "sliding_window": None}, "layer_types", "no key gives the window"),
        ({**MIXED, "layer_types": [S, F, L, F]}, "layer_types", "'linear_attention'"),
        ({**MIXED, "layer_types": [S, F, L, F]}, "full_attention", "'linear_attention'"),
        ({**MIXED, "layer_types": [F]}, "full_attention", "1 entries for 4 layers"),
        ({**UNKNOWN, "mamba_d_state": 16}, "full_attention", "mamba_d_state is 16"),
        ({**UNKNOWN, "index_head_dim": 128}, "full_attention", "index_head_dim is 128"),
        ({**UNKNOWN, "is_encoder_decoder": True}, "full_attention", "is_encoder_decoder is true"),
        ({**UNKNOWN, "kv_lora_rank": 512}, "full_attention", "latent attention, kind=mla"),
        (UNKNOWN, "mla", "kv_lora_rank is missing"),
        (
            {**MIXED, "swa_num_key_value_heads": 4},
            "full_attention",
            "swa_num_key_value_heads is 4, but num_key_value_heads is 8: layers of two shapes",
        ),
        ({**UNKNOWN, "global_head_dim": 512}, "full_attention", "layers of two shapes"),
        (
            {**UNKNOWN, "num_key_value_heads": None, "multi_query": True},
            "full_attention",
            "num_key_value_heads is missing, and multi_query is true",
        ),
        (
            {**UNKNOWN, "text_config": {**TEXT, "num_hidden_layers": 30}},
            "full_attention",
            "two levels describe layers, and differ",
        ),
        ({"model_type": "novel"}, "full_attention", "no level of the file has both"),
        ({**UNKNOWN, "num_attention_heads": 30}, "full_attention", "is not a multiple of"),
    ],
)
def test_what_an_assumption_would_get_wrong_is_refused(
    tmp_path: Path, config: dict[str, Any], kind: str, message: str
) -> None:
    assert message in unanswered(tmp_path, config, kind)


def test_only_some_kinds_can_be_assumed(tmp_path: Path) -> None:
    for config in (UNKNOWN, LLAMA):
        with pytest.raises(UsageError, match="kind=mamba2 is not possible") as raised:
            read_config(write(tmp_path, config), "mamba2")
        assert str(raised.value.hint).startswith("one of: full_attention, ")


def test_a_class_that_changes_another_can_be_assumed_too(tmp_path: Path) -> None:
    config = {**LLAMA, "architectures": ["LlamaForMaskedLM"]}
    assert sizes(assumed(tmp_path, config, "full_attention")) == (131_072, 0)
    assert sizes(assumed(tmp_path, LLAMA, "kind=mla")) == (131_072, 0)


def hint(folder: Path, config: dict[str, Any]) -> str:
    with pytest.raises(RefusedError) as caught:
        spec_of(folder, config)
    return caught.value.hint or ""


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (UNKNOWN, "full_attention"),
        ({**UNKNOWN, "layer_types": [F] * 32}, "full_attention"),
        (
            {**UNKNOWN, "sliding_window": 9, "use_sliding_window": False, "max_window_layers": 2},
            "full_attention",
        ),
        ({**UNKNOWN, "layer_types": [S] * 32, "sliding_window": 9}, "sliding_window"),
        (MIXED, "layer_types"),
        (LATENT, "mla"),
        ({"model_type": "novel_vl", "text_config": MIXED}, "layer_types"),
        # not described by standard keys alone; without KV heads it may be an encoder
        ({**UNKNOWN, "num_key_value_heads": None}, None),
        ({**UNKNOWN, "sliding_window": 9}, None),
        ({**UNKNOWN, "local_layer_ids": [1]}, None),
        ({**UNKNOWN, "num_kv_shared_layers": 4}, None),
        ({**MIXED, "layer_types": [S, F, L, F]}, None),
        ({"model_type": "novel"}, None),
    ],
)
def test_a_ready_line_where_standard_keys_say_everything(
    tmp_path: Path, config: dict[str, Any], kind: str | None
) -> None:
    said = hint(tmp_path, config)
    path = tmp_path / "config.json"
    ready = f"kvplan show {path} --assume kind={kind}"
    assert said.endswith(ready) if kind else "--assume kind=full_attention, sliding_window" in said


def test_the_refusal_names_the_keys_that_it_found(tmp_path: Path) -> None:
    config = {"model_type": "novel_vl", "text_config": {**MIXED, "num_kv_shared_layers": 2}}
    message = refusal(tmp_path, config)
    for part in ("hidden_size: 4096", "sliding_window: 100", "num_kv_shared_layers: 2"):
        assert f"text_config.{part}" in message
    assert "looked for and not found: num_hidden_layers" in refusal(tmp_path, {"model_type": "x"})


NEXT = {
    "model_type": "qwen3_5_text",
    "num_hidden_layers": 4,
    "layer_types": [L, L, L, F],
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_conv_kernel_dim": 4,
}


def test_the_text_part_of_an_unknown_wrapper_is_read_by_its_own_type(tmp_path: Path) -> None:
    """One layer of 2 x 2 heads x 64 x 2 B; states of 4 x 16 x 16 in fp32, tails of 3 x 128."""
    config: dict[str, Any] = {"model_type": "novel_vl", "text_config": NEXT}
    config["vision_config"] = {"depth": 9}
    assert hint(tmp_path, config).endswith("--assume kind=text_config")
    spec = assumed(tmp_path, config, "text_config")
    assert sizes(spec) == (512, 3 * (4 * 16 * 16 * 4 + 3 * 128 * 2))
    assert "keeps what its text_config says, and nothing else" in spec.assumptions[0]
    assert spec.parameters is None or spec.parameters.total is None
    assert "all around the text model" in spec.not_counted[0]
    config["sliding_window"] = 9
    assert "--assume kind=full_attention, " in hint(tmp_path, config)
    said = assumed(tmp_path, config, "text_config").assumptions
    assert "--assume did not use sliding_window: 9" in said


@pytest.mark.parametrize(
    "config",
    [UNKNOWN, {"model_type": "novel_vl", "text_config": NEXT, "llm_config": NEXT}],
)
def test_without_one_known_text_part_there_is_none_to_assume(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    assert "no section, or more than one" in unanswered(tmp_path, config, "text_config")


def renamed(config: Any) -> Any:
    """The same file of a model that nobody knows, at every level."""
    if not isinstance(config, dict):
        return config
    unknown = {"model_type": "novel", "architectures": ["NovelForCausalLM"]}
    return {key: unknown.get(key, renamed(value)) for key, value in config.items()}


@pytest.mark.parametrize("name", models.MODELS)
def test_a_ready_line_gives_what_the_model_keeps(tmp_path: Path, name: str) -> None:
    """Every known model under another name: the line is not there, or it is right."""
    model, config = models.MODELS[name], renamed(models.changed(name, {}))
    *_, kind = hint(tmp_path, config).rpartition("--assume kind=")
    if kind in KINDS:
        kept = (model["bytes_per_token"], model.get("fixed_bytes", 0))
        assert sizes(assumed(tmp_path, config, kind)) == kept


def test_what_is_assumed_goes_before_what_is_known_and_says_so(tmp_path: Path) -> None:
    """Windows of a known family as an engine without windows keeps them: 4 x 2 x 2 x 16 x 2 B."""
    path = write(tmp_path, models.changed("gpt_oss, small", {}))
    spec = read_config(path, "full_attention")[0]
    assert sizes(spec) == (512, 0)
    assert any("without --assume" in note for note in spec.assumptions)


def test_an_assumption_that_a_known_family_bears_out_changes_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, LLAMA)
    assert read_config(path, "full_attention")[0] == read_config(path)[0]


def test_a_file_that_names_its_layers_as_its_class_does_is_refused_in_these_names(
    tmp_path: Path,
) -> None:
    """Every class that has another name for num_hidden_layers, in a section of an unknown file."""
    rows = json.loads(FILE.read_text(encoding="utf-8"))
    own = {
        model_type: names["num_hidden_layers"]
        for model_type, row in rows.items()
        if "num_hidden_layers" in (names := row.get("aliases", {}))
    }
    assert len(own) > 10
    for model_type, layers in own.items():
        text = {"model_type": model_type, layers: 8, "num_attention_heads": 4, "vocab_size": 100}
        config = {"model_type": "novel_vl", "text_config": text}
        assert f"text_config.{layers}: 8" in refusal(tmp_path, config), model_type
