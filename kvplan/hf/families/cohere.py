"""Cohere's Command: one norm before two parallel branches, embedding and head tied."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from kvplan.hf.blocks.base import Model
from kvplan.hf.config import Config
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import INPUT, LLAMA, decoder
from kvplan.hf.families.experts import QWEN, dense_first
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
_COHERE2 = replace(_COHERE, qk_norm="")
_EXPERTS = replace(
    QWEN, width=("intermediate_size",), shared="num_shared_experts", needs_shared=False
)
_PATTERN = ("sliding_window_pattern", "_sliding_window_pattern")


def _cohere2_moe(config: Config) -> Model:
    """``layer_types`` decides; the patterns only fill it in where it is missing."""
    config.ignore("prefix_dense_sliding_window_pattern", "sliding_window_pattern")
    style = replace(_COHERE2, dialect=OWN_HEAD_DIM)
    if config.has("prefix_dense_intermediate_size"):
        style = replace(style, width=("prefix_dense_intermediate_size",))
    return decoder(style, mixed(), _EXPERTS, _sparse)(config)


def _sparse(config: Config, layers: int) -> Iterable[int]:
    """``mlp_layer_types``, else all layers after the dense ones, of which the class has none."""
    if config.has("mlp_layer_types") or config.has("first_k_dense_replace"):
        return dense_first(config, layers)
    return range(layers)


FAMILIES: dict[str, Family] = {
    "cohere": Family(read=decoder(_COHERE)),
    "cohere2": Family(read=decoder(_COHERE2, mixed(4, _PATTERN))),
    "cohere2_moe": Family(read=_cohere2_moe),
}
