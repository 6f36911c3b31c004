"""Which architectures vLLM has a model class for, and what it says of the others.

``architectures.json`` is written by a program that reads the registry of the release itself
(tests/engines/vllm/architectures.py).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from kvplan.errors import RefusedError
from kvplan.spec import ModelSpec

RELEASE = "vLLM 0.33.0"

_SUFFIXES = (
    *("ForCausalLM", "ForConditionalGeneration", "ChatModel", "LMHeadModel", "ForTextEncoding"),
    *("EmbeddingModel", "ForSequenceClassification", "ForTokenClassification"),
    *("ForAudioClassification", "ForImageClassification", "ForVideoClassification"),
    *("ClassificationModel", "ForRewardModeling", "RewardModel", "Model"),
)
"""Ends of names that vLLM exchanges to find a model's class (config/model.py:2340)."""


@dataclass(frozen=True)
class ModelClass:
    """How vLLM serves an architecture.

    ``of_transformers`` is whether its Transformers backend does, which knows attention alone.
    """

    name: str
    of_transformers: bool = False
    pipeline: bool = True
    """Whether it can be cut in pipeline stages (SupportsPP)."""


def model_class(spec: ModelSpec) -> ModelClass | None:
    """The class that serves the model; None where the spec names no architecture.

    Raises RefusedError, in vLLM's words, for one that it does not have (registry.py,
    _raise_for_unsupported).
    """
    name = spec.architecture
    if name is None:
        return None
    registry = _registry()
    served = registry["models"]
    if name in served:
        return ModelClass(
            served[name],
            of_transformers=served[name].startswith("Transformers"),
            pipeline=name not in registry["no_pipeline"],
        )
    if name in registry["drafts"]:
        return ModelClass(name)
    if name in registry["transformers"]:
        return ModelClass("TransformersForCausalLM", of_transformers=True)
    other = next((other for other in _other_names(name) if other in served), None)
    if other is not None:
        return ModelClass(served[other], pipeline=other not in registry["no_pipeline"])
    raise RefusedError(f"{spec.name}: {RELEASE} refuses it: {_reason(name)}", _HINT)


_HINT = "leave engine out: plain arithmetic knows its bytes"


def _reason(name: str) -> str:
    registry = _registry()
    if name in registry["removed"]:
        return (
            f"Model architecture {name} was supported in vLLM until "
            f"v{registry['removed'][name]}, and is not supported anymore."
        )
    if name in registry["plugins"]:
        return (
            f"Model architecture {name} is not supported in-tree anymore. "
            f"Please install the plugin at {registry['plugins'][name]}"
        )
    return f"Model architectures ['{name}'] are not supported for now."


def _other_names(name: str) -> list[str]:
    """The same name with other ends (registry.py, _normalize_arch)."""
    suffix = next((suffix for suffix in _SUFFIXES if name.endswith(suffix)), None)
    return [name.replace(suffix, other) for other in _SUFFIXES] if suffix else []


@cache
def first_release(name: str) -> str | None:
    """The release since which the registry has had this architecture without a break.

    None where it is not in the registry, but served by the Transformers backend or as a draft.
    """
    text = files("kvplan.engines.vllm").joinpath("first_releases.json").read_text(encoding="utf-8")
    releases: dict[str, list[str]] = json.loads(text)
    return next((release for release, names in releases.items() if name in names), None)


def architecture_notes(spec: ModelSpec) -> tuple[str, ...]:
    """What is assumed where the spec does not say which architecture it is."""
    if spec.architecture is not None:
        return ()
    return (f"{spec.name} names no architecture: that {RELEASE} serves it is assumed",)


@cache
def _registry() -> dict[str, Any]:
    text = files("kvplan.engines.vllm").joinpath("architectures.json").read_text(encoding="utf-8")
    registry: dict[str, Any] = json.loads(text)
    return registry
