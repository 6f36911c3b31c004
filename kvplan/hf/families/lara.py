"""Lara-Mini: Gated DeltaNet, sliding and full attention in a pattern of five, and experts."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from kvplan.hf.blocks.base import Model
from kvplan.hf.config import MAX_TOKENS, Config
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import ATTENTION_BIAS, attention, model, others
from kvplan.hf.families.experts import QWEN_SHARED, every_layer
from kvplan.hf.families.qwen import QWEN3
from kvplan.hf.families.states import gated_delta_net
from kvplan.hf.layers import FULL, LINEAR, SLIDING, by_type, layer_count, layer_types

_STYLE = replace(QWEN3, bias=ATTENTION_BIAS, tie=True)
_EXPERTS = replace(QWEN_SHARED, shared_gate=False)
_PATTERN = (LINEAR, SLIDING, LINEAR, FULL, SLIDING)


def _lara_mini(config: Config) -> Model:
    """``layer_types``, else the released pattern (LaraMiniConfig, transformers 5.24.0)."""
    count, full = layer_count(config), attention(config, _STYLE)
    types = layer_types(config, count, lambda index: _PATTERN[index % len(_PATTERN)])
    kinds = {
        FULL: lambda: (full,),
        LINEAR: lambda: (gated_delta_net(config),),
        SLIDING: lambda: (full.sliding(config.count("sliding_window", most=MAX_TOKENS)),),
    }
    config.ignore("sliding_window")
    layers = by_type(config, types, kinds)
    config.ignore("sliding_window")
    return model(
        config, _STYLE, layers, partial(others, config, _STYLE, count, _EXPERTS, every_layer)
    )


FAMILIES: dict[str, Family] = {"lara_mini": Family(read=_lara_mini)}
