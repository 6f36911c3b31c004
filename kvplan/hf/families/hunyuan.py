"""Tencent's Hunyuan, dense and with experts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import Block, Layer, Model
from kvplan.hf.blocks.mlp import MLP
from kvplan.hf.config import Config, UncountedError
from kvplan.hf.families.base import Beside, Family, Wrapper
from kvplan.hf.families.decoder import (
    ATTENTION_BIAS,
    MLP_BIAS,
    Style,
    attention,
    decoder,
    mlp,
    stack,
)
from kvplan.hf.families.experts import NUM_SHARED, Mixture, but_the_first, experts
from kvplan.hf.families.latent import LATENT_KEYS
from kvplan.hf.families.windows import never
from kvplan.hf.geometry import MULTI_HEAD
from kvplan.hf.layers import layer_count

_DENSE, _MOE = "hunyuan_v1_dense", "hunyuan_v1_moe"
_HUNYUAN = Style(
    dialect=replace(MULTI_HEAD, head_dim=("head_dim", "attention_head_dim")),
    bias=ATTENTION_BIAS,
    mlp_bias=MLP_BIAS,
    qk_norm="head",
    qk_norm_key=("use_qk_norm", True),
    qk_norm_names=("query_layernorm", "key_layernorm"),
)
# Files of model_type "hunyuan" have code of their own (modeling_hunyuan.py): what no key turns on
# is off there; in the classes of transformers 5.24.0 it is on.
_OWN_CODE = replace(_HUNYUAN, qk_norm_key=("use_qk_norm", False))
_SEEING = replace(_HUNYUAN, mlp_bias=False, tie=True, uncounted_if=("mlp_bias",))
_HY_V3 = Style(bias=ATTENTION_BIAS, qk_norm="head", uncounted_if=("mlp_bias",))


def _style(config: Config) -> Style:
    """The class of the file's model_type, which may be another than the one in architectures."""
    model_type = config.raw.get("model_type")
    return _OWN_CODE if model_type == "hunyuan" else replace(_HUNYUAN, tie=model_type == _DENSE)


def _hunyuan(config: Config) -> Model:
    """``use_cla``: only every ``cla_share_factor``-th layer owns keys and values."""
    config.require("use_mla", False)
    config.ignore(*LATENT_KEYS, "cla_share_factor")
    style, count = _style(config), layer_count(config)
    heads = attention(config, style)
    factor = config.count("cla_share_factor", most=64) if config.flag("use_cla") else 1
    shared = replace(heads, kind="kv_shared")
    layers = [(shared if index % factor else heads,) for index in range(count)]
    return stack(config, style, layers, forward=_forward)


def _forward(config: Config, style: Style, layers: int) -> Sequence[Block]:
    """An MLP, or experts and, ``use_mixed_mlp_moe``, shared ones as wide as the MLP."""
    if config.flag("use_cla"):
        raise UncountedError("use_cla is on: no published file says which norms those layers have")
    if config.raw.get("model_type") != _MOE and _dense(config, layers):
        return [mlp(config, style)] * layers
    if config.maybe("moe_layer_num_skipped", least=0):
        raise UncountedError("moe_layer_num_skipped is set")
    moe = experts(config, _experts(config), layers)
    if config.flag("use_mixed_mlp_moe", default=style is not _OWN_CODE):
        moe = replace(moe, shared=_shared(config, layers))
    return [moe] * layers


def _dense(config: Config, layers: int) -> bool:
    """One expert is an MLP in Tencent's own code and in vLLM 0.33.0 hunyuan_v1.py.

    HunYuanMoEV1DecoderLayer (transformers 5.24.0) has a router and a shared MLP beside it even so.
    """
    count = config.same_size(layers, "num_experts", least=0) if config.has("num_experts") else 1
    return count <= 1


def _experts(config: Config) -> Mixture:
    wide = config.has("moe_intermediate_size")
    return Mixture(
        count=("num_experts",),
        used=("moe_topk",),
        width=("moe_intermediate_size" if wide else "intermediate_size",),
        bias=MLP_BIAS,
        router="gate.wg",
    )


def _shared(config: Config, layers: int) -> MLP:
    key = "num_shared_expert"
    number = config.same_size(layers, key, least=0) if config.has(key) else 1
    return MLP(width=config.size("intermediate_size") * (number or 1), root="mlp.shared_mlp")


def _refuse_none_shared(config: Config, _: Attention) -> Layer:
    """HYV3MoE takes a width of 0 for none, and makes an MLP of ``intermediate_size``."""
    if config.maybe("num_shared_experts", least=0) == 0:
        raise UncountedError("num_shared_experts is 0, where the class has a whole MLP")
    return ()


FAMILIES: dict[str, Family] = {
    "hunyuan": Family(
        read=_hunyuan,
        architectures=("HunYuanForCausalLM",),
        classes=("hunyuandensev1", "hunyuanmoev1", "hunyuan"),
    ),
    "hunyuan_vl_text": Family(read=decoder(_SEEING)),
    "hunyuan_vl": Family(read=decoder(_SEEING), sees=True),
    _DENSE: Family(read=_hunyuan, classes=("hunyuandensev1",)),
    _MOE: Family(
        read=_hunyuan, architectures=("HunYuanMoEV1ForCausalLM",), classes=("hunyuanmoev1",)
    ),
    "hy_v3": Family(read=decoder(_HY_V3, never, NUM_SHARED, but_the_first, _refuse_none_shared)),
}

WRAPPERS: dict[str, Wrapper] = {
    "hunyuan_vl": Wrapper(
        optional=True,
        text="hunyuan_vl_text",
        beside=(Beside("vision_config", "vision tower"),),
    ),
}
