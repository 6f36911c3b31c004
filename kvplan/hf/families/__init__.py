"""Every architecture that kvplan can read, by ``model_type``, in files named after lineages.

Where a rule is not in the file but in the model's class, the class stands beside it: transformers
5.23.0 unless another source is named. Next month's model is a row in its lineage's file.
"""

from __future__ import annotations

from kvplan.hf.families import (
    cohere,
    ernie,
    exaone,
    gemma,
    glm,
    gpt,
    granite,
    internlm,
    llama,
    mistral,
    nemotron,
    olmo,
    phi,
    qwen,
)
from kvplan.hf.families.base import Family, Wrapper

FAMILIES: dict[str, Family] = {
    **cohere.FAMILIES,
    **ernie.FAMILIES,
    **exaone.FAMILIES,
    **gemma.FAMILIES,
    **glm.FAMILIES,
    **gpt.FAMILIES,
    **granite.FAMILIES,
    **internlm.FAMILIES,
    **llama.FAMILIES,
    **mistral.FAMILIES,
    **nemotron.FAMILIES,
    **olmo.FAMILIES,
    **phi.FAMILIES,
    **qwen.FAMILIES,
}
"""How each model type of a text model is read."""

WRAPPERS: dict[str, Wrapper] = {
    **gemma.WRAPPERS,
    **qwen.WRAPPERS,
}
"""Model types around a text model."""

ARCHITECTURES = {
    name: model_type for model_type, family in FAMILIES.items() for name in family.architectures
}
"""Classes of files whose model_type is another model's name, or stands for none."""
