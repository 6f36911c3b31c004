"""Liquid's LFM2 and LFM3: short convolutions, and attention in some layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from kvplan.hf.blocks.attention import Attention, head_gate
from kvplan.hf.blocks.base import Layer, Model
from kvplan.hf.blocks.recurrent import ShortConv
from kvplan.hf.config import MAX_TOKENS, Config, UncountedError
from kvplan.hf.families.base import Beside, Family, Wrapper
from kvplan.hf.families.decoder import (
    ATTENTION_BIAS,
    Style,
    attention,
    feed_forward,
    mlp,
    model,
    norms,
)
from kvplan.hf.families.experts import Mixture
from kvplan.hf.families.states import kernel
from kvplan.hf.geometry import OWN_HEAD_DIM
from kvplan.hf.layers import FULL, SLIDING, agree, by_type, layer_count, layer_types

_NAMES = ("w1", "w3", "w2")
_LFM2 = Style(
    qk_norm="head",
    qk_norm_names=("q_layernorm", "k_layernorm"),
    out="out_proj",
    norms=("operator_norm", "ffn_norm"),
    mlp_root="feed_forward",
    mlp_names=_NAMES,
    final="model.embedding_norm",
    tie=True,
    tie_keys=("tie_embedding",),
)
_LFM3 = replace(
    _LFM2,
    dialect=OWN_HEAD_DIM,
    bias=ATTENTION_BIAS,
    qk_norm_names=("q_norm", "k_norm"),
    out="o_proj",
    norms=("operator_norm", "ffn_norm", "post_operator_norm", "post_ffn_norm"),
    tie_keys=(),
)
_EXPERTS = Mixture(count=("num_experts",), root="feed_forward", names=_NAMES)


def _lfm2(config: Config) -> Model:
    """An MLP in every layer (Lfm2Config)."""

    def others() -> Sequence[Layer]:
        dense = mlp(config, _LFM2, width=_width(config))
        return [(dense, norms(_LFM2))] * len(layers)

    layers = _layers(config)
    return model(config, _LFM2, layers, others)


def _lfm2_moe(config: Config) -> Model:
    """Experts after ``num_dense_layers`` (Lfm2MoeConfig); ``use_expert_bias`` balances them."""

    def others() -> Sequence[Layer]:
        balanced = config.flag("use_expert_bias")
        mixture = replace(_EXPERTS, correction="buffer" if balanced else None)
        forward = feed_forward(config, _LFM2, len(layers), mixture, _after_dense)
        return [(block, norms(_LFM2)) for block in forward]

    layers = _layers(config)
    return model(config, _LFM2, layers, others)


def _after_dense(config: Config, layers: int) -> Iterable[int]:
    return range(min(config.size("num_dense_layers", least=0), layers), layers)


def _layers(config: Config) -> tuple[Layer, ...]:
    """``layer_types``, or attention in ``full_attn_idxs`` (modeling_lfm2.py:316)."""
    count, plain = layer_count(config), (attention(config, _LFM2),)
    attending = config.numbers("full_attn_idxs")
    rule = (lambda i: FULL if i in set(attending) else "conv") if attending else None
    types = layer_types(config, count, rule)
    if rule is not None:
        agree(config, "full_attn_idxs", types, rule)
    hidden = config.count("hidden_size")
    channels = config.maybe("conv_dim") or hidden
    if channels != hidden:
        config.refuse("conv_dim is not hidden_size, which the convolution runs over")
    config.ignore("conv_dim_out", "conv_use_xavier_init", "conv_bias", "conv_L_cache")

    def convolution() -> Layer:
        width, bias = kernel(config, "conv_L_cache"), config.flag("conv_bias")
        return (ShortConv(channels=channels, kernel=width, bias=bias),)

    return by_type(config, types, {FULL: lambda: plain, "conv": convolution})


def _lfm3(config: Config) -> Model:
    """Convolutions, sliding and full attention by ``layer_types`` (Lfm3Config)."""
    count, plain = layer_count(config), attention(config, _LFM3)
    types = layer_types(config, count, _lfm3_type)
    hidden = config.count("hidden_size")
    kinds = {
        FULL: lambda: (plain,),
        SLIDING: lambda: (plain.sliding(config.count("sliding_window", most=MAX_TOKENS)),),
        "conv": lambda: (
            ShortConv(
                channels=hidden,
                kernel=kernel(config, "conv_L_cache"),
                bias=config.flag("conv_bias"),
            ),
        ),
    }
    layers = by_type(config, types, kinds)
    config.ignore("conv_bias", "conv_L_cache", "sliding_window")

    def others() -> Sequence[Layer]:
        sandwich = config.flag("use_sandwich_norm")
        style = _LFM3 if sandwich else replace(_LFM3, norms=_LFM2.norms)
        around = (mlp(config, style), norms(style))
        gated = config.flag("use_attention_gate")
        return [
            (*around, *(head_gate(config, block) if gated and isinstance(block, Attention) else ()))
            for (block,) in layers
        ]

    return model(config, _LFM3, layers, others)


def _lfm3_type(index: int) -> str:
    """Lfm3Config, where a file gives no list."""
    if index % 4 == 2:  # noqa: PLR2004 - the class's own pattern
        return FULL
    return SLIDING if index % 4 == 0 and index else "conv"


def _width(config: Config) -> int:
    """Lfm2MLP: two thirds, times a factor, rounded up. The flag has to be in the file."""
    width = config.size("intermediate_size", "block_ff_dim")
    if not config.settles("block_auto_adjust_ff_dim"):
        config.uncounted("block_auto_adjust_ff_dim")
    if not config.flag("block_auto_adjust_ff_dim"):
        return width
    factor = config.raw.get("block_ffn_dim_multiplier")
    if factor not in (None, 1, 1.0):
        raise UncountedError("block_ffn_dim_multiplier is not 1")
    multiple = config.size("block_multiple_of")
    return -(-(2 * width // 3) // multiple) * multiple


FAMILIES: dict[str, Family] = {
    "lfm2": Family(read=_lfm2),
    "lfm2_moe": Family(read=_lfm2_moe),
    "lfm3": Family(read=_lfm3),
}

WRAPPERS: dict[str, Wrapper] = {
    "lfm2_vl": Wrapper(),
    "lfm2-vl": Wrapper(),
    "lfm3_vl": Wrapper(text="lfm3", beside=(Beside("vision_config", "vision tower"),)),
}
