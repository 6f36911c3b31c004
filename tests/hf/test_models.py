"""Every family of the importer against figures from outside kvplan."""

from __future__ import annotations

from fractions import Fraction

import pytest

import kvplan
from tests.hf.models import MODELS, spec_of

NOT_COUNTED = {
    # Models whose parameters kvplan says it does not know, though their figure is known here.
    "gemma4_text as transformers saves it, small",
    "minimax_m3_vl_text, small",
    "phi normed, small",
    "stablelm, small",
    "stepfun-ai/Step-3.7-Flash",
    "stepfun-ai/Step-3.7-Flash-FP8",
    "tencent/Tencent-Hunyuan-Large",
}


@pytest.mark.parametrize("name", MODELS)
def test_caches_are_those_of_the_model(name: str) -> None:
    model, result = MODELS[name], kvplan.footprint(spec_of(name), 131_072, kv_cache_dtype="bf16")
    assert result.bytes_per_token == Fraction(model["bytes_per_token"])
    assert result.fixed_bytes_per_sequence == model.get("fixed_bytes", 0)
    assert result.cross_attention_bytes_per_sequence == model.get("cross_bytes", 0)


COUNTED = [name for name, model in MODELS.items() if model["total"] or "language" in model]
"""Models whose parameters are known from outside; ``language`` stands where towers are beside."""


@pytest.mark.parametrize("name", COUNTED)
def test_parameters_are_exact_or_said_not_to_be_counted(name: str) -> None:
    model, spec = MODELS[name], spec_of(name)
    assert (spec.parameters is None) == (name in NOT_COUNTED)
    if spec.parameters is None:
        assert spec.not_counted
        return
    assert (spec.parameters.total, spec.parameters.active) == (model["total"], model["active"])
    if "language" in model:
        assert spec.parameters.of_language == model["language"]


@pytest.mark.parametrize("name", [name for name in MODELS if name not in COUNTED])
def test_a_model_that_is_not_counted_says_what_is_left_out(name: str) -> None:
    assert spec_of(name).parameters or spec_of(name).not_counted


@pytest.mark.parametrize("name", [name for name in MODELS if "weights_bytes" in MODELS[name]])
def test_weights_are_the_published_bytes(name: str) -> None:
    assert spec_of(name).weights_bytes == MODELS[name]["weights_bytes"]


@pytest.mark.parametrize("name", MODELS)
def test_parts_add_up_to_the_parameters(name: str) -> None:
    spec = spec_of(name)
    if spec.parameters and spec.weights:
        towers = () if spec.parameters.total else ("vision", "audio")
        rows = (row for row in spec.weights if not row.what and row.part not in towers)
        total = spec.parameters.total or spec.parameters.of_language
        assert sum(row.elements for row in rows) == total


EXPERT_WIDTHS = ("moe_intermediate_size", "expert_ffn_hidden_size", "ffn_hidden_size")
"""Keys of a routed expert's width in published files; where none is there, intermediate_size."""


@pytest.mark.parametrize("name", MODELS)
def test_experts_are_as_wide_as_the_file_says(name: str) -> None:
    spec, config = spec_of(name), MODELS[name]["config"]
    sections = (config.get(key, {}) for key in ("text_config", "language_config", "ffn_config"))
    text = {key: value for part in (config, *sections) for key, value in part.items()}
    key = next((key for key in EXPERT_WIDTHS if key in text), "intermediate_size")
    if spec.has_routed_experts and key not in text:
        assert any(key in default.key for default in spec.class_defaults for key in EXPERT_WIDTHS)
    elif spec.has_routed_experts:
        width = text[key][0] if isinstance(text[key], list) else text[key]
        assert spec.expert_intermediate_size == width
    else:
        assert spec.expert_intermediate_size is None
