"""TII's Falcon, and Falcon-H1 with attention and Mamba-2 side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import Extra, Layer, Model, buffer
from kvplan.hf.blocks.ends import tied
from kvplan.hf.config import Config, Figure
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import (
    ATTENTION_BIAS,
    INPUT,
    MLP_BIAS,
    PRE_NORM,
    Style,
    attention,
    ends,
    mlp,
    model,
    norms,
    others,
)
from kvplan.hf.families.states import mamba2_d
from kvplan.hf.geometry import Dialect
from kvplan.hf.layers import layer_count

_KV = ("num_kv_heads", "n_head_kv")
_FALCON = Style(
    dialect=Dialect(("num_attention_heads", "n_head"), ("hidden_size", "n_embed"), _KV, ()),
    layers=("num_hidden_layers", "n_layer"),
    hidden=("hidden_size", "n_embed"),
    bias=("bias", False),
    fused="query_key_value",
    out="dense",
    attn_root="self_attention",
    norm_bias=True,
    gated=False,
    mlp_bias=("bias", False),
    mlp_names=("dense_h_to_4h", "dense_4h_to_h"),
    root="transformer.h",
    final="transformer.ln_f",
    ends=("transformer.word_embeddings", "lm_head"),
    tie=True,
)
_H1 = Style(
    bias=ATTENTION_BIAS,
    norms=(INPUT, "pre_ff_layernorm"),
    final="model.final_layernorm",
    mlp_root="feed_forward",
    mlp_bias=MLP_BIAS,
    uncounted_if=("mamba_proj_bias", "projectors_bias"),
)


def _falcon(config: Config) -> Model:
    """The new decoder has two norms before its parallel branches, the old one has one."""
    new = config.flag("new_decoder_architecture")
    heads = _falcon_heads(config, new=new)
    count = layer_count(config, *_FALCON.layers)

    def rest() -> Sequence[Layer]:
        width = config.maybe("ffn_hidden_size") or 4 * config.size(*_FALCON.hidden)
        style = replace(_FALCON, norms=_falcon_norms(config, new=new))
        return [(mlp(config, style, width=width), norms(style))] * count

    plain = model(config, _FALCON, [(heads,)] * count, rest)
    return replace(plain, ends=lambda: (*ends(config, _FALCON), *_stored_head(config)))


def _falcon_heads(config: Config, *, new: bool) -> Attention:
    """``multi_query`` counts only without ``new_decoder_architecture`` (modeling_falcon.py)."""
    if new:
        config.ignore("multi_query")
        return attention(config, _FALCON)
    one = config.flag("multi_query", default=None)
    config.ignore(*_KV)
    many = replace(_FALCON.dialect, kv=())
    heads = attention(config, replace(_FALCON, dialect=many))
    return replace(heads, kv=Figure(1, config.name("multi_query"))) if one else heads


def _falcon_norms(config: Config, *, new: bool) -> tuple[str, ...]:
    branches = config.maybe("num_ln_in_parallel_attn") or (2 if new else 1)
    if not config.flag("parallel_attn", default=True):
        return PRE_NORM
    return ("ln_attn", "ln_mlp") if branches == len(PRE_NORM) else (INPUT,)


def _stored_head(config: Config) -> Layer:
    """Published files store the head although it is the embedding (40b: 83,671,941,120 B)."""
    if not tied(config, default=True):
        return ()
    shape = config.size("vocab_size"), config.size(*_FALCON.hidden)
    return (Extra(tensors=tuple(buffer("lm_head", "lm_head.copy", *shape, dtype=None))),)


def _falcon_h1(config: Config) -> Model:
    """Every layer has both, attention and Mamba-2; the mixer's norm with ``mamba_rms_norm``."""
    config.require("attn_layer_indices")
    mamba = replace(mamba2_d(config), normed=config.flag("mamba_rms_norm"))
    count, heads = layer_count(config), attention(config, _H1)

    def rest() -> Sequence[Layer]:
        if not config.settles("mamba_rms_norm"):
            config.uncounted("mamba_rms_norm")
        return others(config, _H1, count)

    return model(config, _H1, [(heads, mamba)] * count, rest)


_REFINED_WEB = Family(read=_falcon, classes=("rw", "falcon"))

FAMILIES: dict[str, Family] = {
    "falcon": Family(read=_falcon),
    "RefinedWeb": _REFINED_WEB,
    "RefinedWebModel": _REFINED_WEB,
    "falcon_h1": Family(read=_falcon_h1),
}
