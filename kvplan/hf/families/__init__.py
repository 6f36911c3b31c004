"""Every architecture that kvplan can read, by ``model_type``, in files named after lineages.

Where a rule is not in the file but in the model's class, the class stands beside it: transformers
5.23.0 unless another source is named. Next month's model is a row in its lineage's file.
"""

from __future__ import annotations

from kvplan.hf.families import (
    bamba,
    bloom,
    cohere,
    deepseek_vision,
    ernie,
    ernie_vision,
    exaone,
    falcon,
    gemma,
    glm,
    gpt,
    granite,
    internlm,
    jamba,
    kimi_vision,
    lfm2,
    llama,
    llama4_vision,
    mamba,
    minimax_01,
    minimax_vision,
    mistral,
    mllama,
    muse_glimmer,
    nemotron,
    olmo,
    opt,
    phi,
    qwen,
    qwen_next,
    step_vision,
    vision_language,
    whisper,
    zamba,
)
from kvplan.hf.families.base import Family, Wrapper

FAMILIES: dict[str, Family] = {
    **bamba.FAMILIES,
    **bloom.FAMILIES,
    **cohere.FAMILIES,
    **ernie.FAMILIES,
    **exaone.FAMILIES,
    **falcon.FAMILIES,
    **gemma.FAMILIES,
    **glm.FAMILIES,
    **gpt.FAMILIES,
    **granite.FAMILIES,
    **internlm.FAMILIES,
    **jamba.FAMILIES,
    **lfm2.FAMILIES,
    **llama.FAMILIES,
    **mamba.FAMILIES,
    **minimax_01.FAMILIES,
    **mistral.FAMILIES,
    **mllama.FAMILIES,
    **muse_glimmer.FAMILIES,
    **nemotron.FAMILIES,
    **olmo.FAMILIES,
    **opt.FAMILIES,
    **phi.FAMILIES,
    **qwen.FAMILIES,
    **qwen_next.FAMILIES,
    **whisper.FAMILIES,
    **zamba.FAMILIES,
}
"""How each model type of a text model is read."""

WRAPPERS: dict[str, Wrapper] = {
    **cohere.WRAPPERS,
    **deepseek_vision.WRAPPERS,
    **ernie_vision.WRAPPERS,
    **gemma.WRAPPERS,
    **glm.WRAPPERS,
    **granite.WRAPPERS,
    **kimi_vision.WRAPPERS,
    **lfm2.WRAPPERS,
    **llama.WRAPPERS,
    **llama4_vision.WRAPPERS,
    **minimax_vision.WRAPPERS,
    **mistral.WRAPPERS,
    **mllama.WRAPPERS,
    **muse_glimmer.WRAPPERS,
    **nemotron.WRAPPERS,
    **qwen.WRAPPERS,
    **qwen_next.WRAPPERS,
    **step_vision.WRAPPERS,
    **vision_language.WRAPPERS,
}
"""Model types around a text model."""

ARCHITECTURES = {
    name: model_type for model_type, family in FAMILIES.items() for name in family.architectures
}
"""Classes of files whose model_type is another model's name, or stands for none."""
