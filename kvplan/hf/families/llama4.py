"""Llama 4: chunked attention on most layers, experts on every layer or every second one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import Model
from kvplan.hf.config import MAX_TOKENS, Config
from kvplan.hf.families.base import Family, Wrapper
from kvplan.hf.families.decoder import ATTENTION_BIAS, Style, attention, stack
from kvplan.hf.families.experts import Mixture
from kvplan.hf.families.llama4_vision import llama4
from kvplan.hf.layers import FULL, agree, by_type, layer_count, layer_types, one_full_in

_CHUNKED = "chunked_attention"
_STYLE = Style(bias=ATTENTION_BIAS, width=("intermediate_size_mlp",), mlp_root="feed_forward")
_EXPERTS = Mixture(
    count=("num_local_experts",),
    width=("intermediate_size",),
    shared_width=("intermediate_size",),
    shared_root="feed_forward.shared_expert",
    root="feed_forward",
    router="router",
)


def _llama4(config: Config) -> Model:
    """Every ``no_rope_layer_interval``-th layer is full (Llama4TextConfig)."""
    config.ignore("use_qk_norm")  # It has no weights.
    full, count = attention(config, _STYLE), layer_count(config)
    kinds = {FULL: lambda: (full,), _CHUNKED: lambda: (_chunked(config, full),)}
    layers = by_type(config, _types(config, count), kinds)
    return stack(config, _STYLE, layers, _EXPERTS, _expert_layers)


def _types(config: Config, layers: int) -> Sequence[str]:
    rotary = config.per_layer("no_rope_layers", config.numbers("no_rope_layers") or None, layers)
    if rotary is None:
        period = config.count("no_rope_layer_interval")
        return layer_types(config, layers, one_full_in(period, _CHUNKED))
    config.ignore("no_rope_layer_interval")
    listed = [_CHUNKED if flag else FULL for flag in rotary]
    types = layer_types(config, layers, listed.__getitem__)
    agree(config, "no_rope_layers", types, listed.__getitem__)
    return types


def _chunked(config: Config, full: Attention) -> Attention:
    size = config.count("attention_chunk_size", most=MAX_TOKENS)
    return replace(full, kind="chunked_local", span=size)


def _expert_layers(config: Config, layers: int) -> Sequence[int]:
    """``moe_layers``, else every ``interleave_moe_layer_step``-th."""
    step = config.size("interleave_moe_layer_step")
    given = config.numbers("moe_layers") or range(step - 1, layers, step)
    if any(not 0 <= index < layers for index in given):
        config.refuse("moe_layers names a layer that does not exist")
    return given


FAMILIES: dict[str, Family] = {
    "llama4_text": Family(read=_llama4),
}

WRAPPERS: dict[str, Wrapper] = {"llama4": Wrapper(tower=llama4)}
