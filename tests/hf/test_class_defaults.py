"""What a class takes for a key that the file does not have, and how kvplan says it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvplan.hf import read_config, to_yaml
from kvplan.hf.class_defaults import TRANSFORMERS
from kvplan.spec import ClassDefault
from tests.hf.configs import HEADS, LLAMA, refusal, sizes, spec_of, write
from tests.hf.models import changed
from tests.hf.sweep import class_defaults

MISTRAL = "MistralConfig (transformers 5.24.0)"


def test_the_table_is_what_the_classes_say() -> None:
    transformers = pytest.importorskip("transformers")
    if f"transformers {transformers.__version__}" != TRANSFORMERS:
        pytest.skip(f"not {TRANSFORMERS}")
    written = json.loads(class_defaults.FILE.read_text(encoding="utf-8"))
    fresh = class_defaults.rows({})
    for row in (*written.values(), *fresh.values()):
        for of_older_releases in ("differs", "since_5"):
            row.pop(of_older_releases, None)
    assert fresh == written


def test_a_default_is_the_figure_and_is_named(tmp_path: Path) -> None:
    """MistralConfig slides at 4,096: 4 layers of 2 x 2 heads x 16 x 2 B."""
    changes = {"sliding_window": None, "max_position_embeddings": 32_768}
    spec = spec_of(tmp_path, changed("mistral, small", changes))
    assert sizes(spec) == (0, 4 * 128 * 4_096)
    assert ClassDefault(key="sliding_window", value=4096, source=MISTRAL) in spec.class_defaults


def test_what_a_class_works_out_is_named(tmp_path: Path) -> None:
    """LlamaConfig.__post_init__: as many KV heads as heads, hidden size over heads."""
    config = {key: value for key, value in LLAMA.items() if key not in HEADS}
    spec = spec_of(tmp_path, {**config, "num_attention_heads": 32, "hidden_size": 4096})
    taken = {default.key: default.value for default in spec.class_defaults}
    assert taken["head_dim"] == 4_096 // 32
    assert taken["num_key_value_heads"] == 32


def test_what_code_outside_transformers_takes_is_named(tmp_path: Path) -> None:
    """Yi's first code, configuration_yi.py: no tie, no biases."""
    spec = spec_of(tmp_path, changed("01-ai/Yi-34B", {"tie_word_embeddings": None}))
    tie = next(each for each in spec.class_defaults if each.key == "tie_word_embeddings")
    assert tie.value is False
    assert tie.source == "the family's own code, which is not in transformers 5.24.0"


def test_layer_types_that_a_rule_gives_are_named(tmp_path: Path) -> None:
    """Gemma2Config: every second layer slides, from the first on."""
    config = {"model_type": "gemma2", **HEADS, "num_hidden_layers": 5, "sliding_window": 100}
    taken = {each.key: each.value for each in spec_of(tmp_path, config).class_defaults}
    assert taken["layer_types"] == "3 sliding_attention, 2 full_attention"


def test_null_is_not_a_missing_key(tmp_path: Path) -> None:
    """Null is no window there."""
    config = {**changed("mistral, small", {}), "sliding_window": None}
    spec = spec_of(tmp_path, config)
    assert sizes(spec) == (4 * 128, 0)
    assert "sliding_window" not in [default.key for default in spec.class_defaults]


def test_a_flag_that_is_null_where_it_would_be_on_is_refused(tmp_path: Path) -> None:
    config = {**changed("gpt_neox, small", {}), "attention_bias": None}
    assert "attention_bias is null" in refusal(tmp_path, config)


def test_a_size_of_its_own_is_never_a_class_default(tmp_path: Path) -> None:
    config = {key: value for key, value in LLAMA.items() if key != "num_attention_heads"}
    assert "num_attention_heads is missing" in refusal(tmp_path, config)


def test_yaml_says_it_in_a_comment(tmp_path: Path) -> None:
    spec, provenance = read_config(write(tmp_path, LLAMA))
    said = "# attention_bias is not in the file: false, the default of LlamaConfig"
    assert f"{said} (transformers 5.24.0)\n" in to_yaml(spec, provenance)
