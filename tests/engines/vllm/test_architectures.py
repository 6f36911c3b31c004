"""Which models vLLM 0.33.0 has a class for, and its own words for the others."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest

import kvplan
from kvplan.engines.vllm.architectures import architecture_notes, model_class
from kvplan.errors import RefusedError
from kvplan.spec import ModelSpec
from tests.engines.vllm import architectures


def named(architecture: str | None) -> ModelSpec:
    return replace(kvplan.load("qwen3-8b"), architecture=architecture)


def test_the_table_is_what_the_registry_says() -> None:
    found = importlib.util.find_spec("vllm")
    if found is None or found.origin is None:
        pytest.skip("the sources of vLLM are not here")
    fresh = architectures.rows(Path(found.origin).parent)
    written = json.loads(architectures.FILE.read_text(encoding="utf-8"))
    written.pop("transformers")
    assert fresh == written


@pytest.mark.parametrize(
    ("architecture", "served_by"),
    [
        ("Qwen3ForCausalLM", "Qwen3ForCausalLM"),
        ("StableLmForCausalLM", "StablelmForCausalLM"),
        ("Olmo3ForCausalLM", "TransformersForCausalLM"),
        ("ChatGLMModel", "ChatGLMForCausalLM"),
    ],
)
def test_names_are_served_by_the_class_that_vllm_answered(
    architecture: str, served_by: str
) -> None:
    """``arch_class`` of vLLM 0.33.0's own answers."""
    found = model_class(named(architecture))
    assert found is not None
    assert found.name == served_by


@pytest.mark.parametrize(
    ("architecture", "words"),
    [
        (
            "Grok1ForCausalLM",
            "Model architecture Grok1ForCausalLM was supported in vLLM until v0.24.0, and is not "
            "supported anymore.",
        ),
        (
            "Step3p7FlashForCausalLM",
            "Model architectures ['Step3p7FlashForCausalLM'] are not supported for now.",
        ),
    ],
)
def test_what_vllm_does_not_have_is_refused_in_its_words(architecture: str, words: str) -> None:
    """Messages as vLLM 0.33.0 gave them for xai-org/grok-2 and stepfun-ai/Step-3.7-Flash."""
    with pytest.raises(RefusedError) as refused:
        model_class(named(architecture))
    assert words in refused.value.message


def test_a_removed_class_that_transformers_has_is_served_by_its_backend() -> None:
    """registry.py asks transformers before it raises."""
    found = model_class(named("Dots1ForCausalLM"))
    assert found is not None
    assert found.of_transformers


def test_no_architecture_is_an_assumption() -> None:
    assert model_class(named(None)) is None
    assert architecture_notes(named(None)) == (
        "qwen3-8b names no architecture: that vLLM 0.33.0 serves it is assumed",
    )
    assert architecture_notes(named("Qwen3ForCausalLM")) == ()
