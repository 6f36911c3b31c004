"""Mamba-2 and attention in turn: Bamba, and what Granite-4 reads in the same way."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from kvplan.hf.blocks.base import Layer, Model
from kvplan.hf.config import Config
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import (
    ATTENTION_BIAS,
    INPUT,
    MLP_BIAS,
    Style,
    attention,
    model,
    others,
)
from kvplan.hf.families.states import mamba2_d
from kvplan.hf.geometry import MULTI_HEAD
from kvplan.hf.layers import FULL, LINEAR, Rule, by_type, layer_count, layer_types

_BAMBA = Style(
    dialect=MULTI_HEAD,
    bias=ATTENTION_BIAS,
    norms=(INPUT, "pre_ff_layernorm"),
    final="model.final_layernorm",
    mlp_root="feed_forward",
    mlp_bias=MLP_BIAS,
)


def mamba2_hybrid(config: Config, style: Style) -> tuple[Layer, ...]:
    """Mamba-2 and attention by ``layer_types`` (Granite-4) or ``attn_layer_indices`` (Bamba).

    Null in either is what a class saves that was given none: Mamba-2 on every layer.
    """
    count = layer_count(config)
    indices = config.numbers("attn_layer_indices")
    rule: Rule | None = None
    if indices is not None:
        if not all(0 <= index < count for index in indices):
            config.refuse("attn_layer_indices names a layer that does not exist")
        rule = lambda index: "attention" if index in set(indices) else "mamba"  # noqa: E731
    elif config.mentions("attn_layer_indices", "layer_types"):
        rule = lambda _: "mamba"  # noqa: E731
    config.ignore(*(key for key in config.raw if key.startswith("mamba_")))
    plain: Callable[[], Layer] = lambda: (attention(config, style),)  # noqa: E731
    state: Callable[[], Layer] = lambda: (mamba2_d(config),)  # noqa: E731
    types = layer_types(config, count, rule)
    kinds = {"attention": plain, FULL: plain, "mamba": state, LINEAR: state}
    return by_type(config, types, kinds)


def _bamba(config: Config) -> Model:
    """An MLP in every layer (BambaConfig)."""
    layers = mamba2_hybrid(config, _BAMBA)
    return model(config, _BAMBA, layers, partial(others, config, _BAMBA, len(layers)))


FAMILIES: dict[str, Family] = {"bamba": Family(read=_bamba)}
