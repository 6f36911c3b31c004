"""Translated's Lara: Gated DeltaNet, windows and full attention in turn, experts on every layer."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from kvplan.hf.blocks.base import Layer, Model
from kvplan.hf.config import Config
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import OWN_WIDTH, attention, model, others
from kvplan.hf.families.experts import QWEN_SHARED
from kvplan.hf.families.states import gated_delta_net
from kvplan.hf.geometry import needed_window
from kvplan.hf.layers import FULL, LINEAR, SLIDING, by_type, layer_count, layer_types

_STYLE = replace(OWN_WIDTH, qk_norm="head", tie=True)
_EXPERTS = replace(QWEN_SHARED, shared_gate=False)
_PERIOD = (LINEAR, SLIDING, LINEAR, FULL, SLIDING)
"""Types of the layers where the file names none (LaraMiniConfig)."""


def _lara(config: Config) -> Model:
    heads, count = attention(config, _STYLE), layer_count(config)
    types = layer_types(config, count, lambda index: _PERIOD[index % len(_PERIOD)])

    def local() -> Layer:
        return (heads.sliding(needed_window(config)),)

    kinds = {FULL: lambda: (heads,), SLIDING: local, LINEAR: lambda: (gated_delta_net(config),)}
    layers = by_type(config, types, kinds)
    return model(config, _STYLE, layers, partial(others, config, _STYLE, count, _EXPERTS))


FAMILIES: dict[str, Family] = {"lara_mini": Family(read=_lara)}
