"""Cohere's Command: one norm before two parallel branches, embedding and head tied."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from kvplan.hf.blocks.base import Model
from kvplan.hf.config import Config
from kvplan.hf.families.base import Beside, Family, Wrapper
from kvplan.hf.families.decoder import INPUT, LLAMA, decoder
from kvplan.hf.families.experts import Mixture, dense_first, every_layer
from kvplan.hf.families.windows import mixed
from kvplan.hf.geometry import OWN_HEAD_DIM

_COHERE = replace(
    LLAMA,
    mlp_bias=False,
    norms=(INPUT,),
    qk_norm="each",
    qk_norm_key=("use_qk_norm", False),
    tie=True,
    tie_keys=("use_embedding_sharing",),
)
_EXPERTS = Mixture(
    count=("num_experts",),
    width=("intermediate_size",),
    shared=("num_shared_experts",),
    no_shared="missing",
)
_PATTERN = ("sliding_window_pattern", "_sliding_window_pattern")


def _cohere2_moe(config: Config) -> Model:
    """``layer_types`` decides; the patterns only fill it in where it is missing.

    Dense layers may have a width of their own (Cohere2MoeConfig).
    """
    config.ignore("prefix_dense_sliding_window_pattern", "sliding_window_pattern")
    key = "prefix_dense_intermediate_size"
    width = (key,) if config.has(key) else _COHERE.width
    config.ignore(key)
    style = replace(_COHERE, dialect=OWN_HEAD_DIM, qk_norm="", width=width)
    return decoder(style, mixed(), _EXPERTS, _after_prefix)(config)


def _after_prefix(config: Config, layers: int) -> Iterable[int]:
    """Experts on every layer where the file names no dense ones."""
    named = config.has("mlp_layer_types") or config.has("first_k_dense_replace")
    return dense_first(config, layers) if named else every_layer(config, layers)


FAMILIES: dict[str, Family] = {
    "cohere": Family(read=decoder(_COHERE)),
    "cohere2": Family(read=decoder(replace(_COHERE, qk_norm=""), mixed(4, _PATTERN))),
    "cohere2_moe": Family(read=_cohere2_moe),
    "cohere_compass_text": Family(read=decoder(replace(_COHERE, qk_norm=""), mixed(4, _PATTERN))),
}

WRAPPERS: dict[str, Wrapper] = {
    "aya_vision": Wrapper(),
    "cohere2_vision": Wrapper(),
    "cohere_compass": Wrapper(
        text="cohere_compass_text",
        beside=(Beside("vision_config", "vision tower"),),
    ),
}
