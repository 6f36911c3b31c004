"""Every architecture that kvplan can read, by ``model_type``, in files named after lineages.

Where a rule is not in the file but in the model's class, the class stands beside it: transformers
5.23.0 unless another source is named. Next month's model is a row in its lineage's file.
"""

from __future__ import annotations

from kvplan.hf.families import (
    afmoe,
    axk1,
    bailing,
    cohere,
    deepseek,
    dots,
    ernie,
    exaone,
    gemma,
    glm,
    gpt,
    granite,
    grok,
    hunyuan,
    internlm,
    kimi,
    laguna,
    llama,
    llama4,
    longcat,
    mimo,
    minicpm,
    minimax,
    mistral,
    mosaic,
    nemotron,
    olmo,
    phi,
    qwen,
    step,
)
from kvplan.hf.families.base import Family, Wrapper

FAMILIES: dict[str, Family] = {
    **afmoe.FAMILIES,
    **axk1.FAMILIES,
    **bailing.FAMILIES,
    **cohere.FAMILIES,
    **deepseek.FAMILIES,
    **dots.FAMILIES,
    **ernie.FAMILIES,
    **exaone.FAMILIES,
    **gemma.FAMILIES,
    **glm.FAMILIES,
    **gpt.FAMILIES,
    **granite.FAMILIES,
    **grok.FAMILIES,
    **hunyuan.FAMILIES,
    **internlm.FAMILIES,
    **kimi.FAMILIES,
    **laguna.FAMILIES,
    **llama.FAMILIES,
    **llama4.FAMILIES,
    **longcat.FAMILIES,
    **mimo.FAMILIES,
    **minicpm.FAMILIES,
    **minimax.FAMILIES,
    **mistral.FAMILIES,
    **mosaic.FAMILIES,
    **nemotron.FAMILIES,
    **olmo.FAMILIES,
    **phi.FAMILIES,
    **qwen.FAMILIES,
    **step.FAMILIES,
}
"""How each model type of a text model is read."""

WRAPPERS: dict[str, Wrapper] = {
    **deepseek.WRAPPERS,
    **ernie.WRAPPERS,
    **gemma.WRAPPERS,
    **kimi.WRAPPERS,
    **llama4.WRAPPERS,
    **minimax.WRAPPERS,
    **qwen.WRAPPERS,
    **step.WRAPPERS,
}
"""Model types around a text model."""

ARCHITECTURES = {
    name: model_type for model_type, family in FAMILIES.items() for name in family.architectures
}
"""Classes of files whose model_type is another model's name, or stands for none."""
