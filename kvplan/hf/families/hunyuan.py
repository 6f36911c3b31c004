"""Tencent's Hunyuan, dense and with experts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvplan.hf.blocks.base import Block, Layer, Model
from kvplan.hf.blocks.mlp import MLP, Experts
from kvplan.hf.config import Config, UncountedError
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import (
    ATTENTION_BIAS,
    MLP_BIAS,
    Style,
    attention,
    decoder,
    mlp,
    model,
    norms,
)
from kvplan.hf.families.experts import QWEN, dense_first, some_of
from kvplan.hf.families.windows import never
from kvplan.hf.geometry import MULTI_HEAD
from kvplan.hf.layers import layer_count

_HUNYUAN = Style(
    dialect=replace(MULTI_HEAD, head_dim=("head_dim", "attention_head_dim")),
    bias=ATTENTION_BIAS,
    mlp_bias=MLP_BIAS,
    qk_norm="head",
    qk_norm_key=("use_qk_norm", True),
    qk_norm_names=("query_layernorm", "key_layernorm"),
)
_OWN_CODE = replace(_HUNYUAN, qk_norm_key=("use_qk_norm", False))
_HY_V3 = Style(bias=ATTENTION_BIAS, qk_norm="head", uncounted_if=("mlp_bias",))
_HY_V3_EXPERTS = replace(
    QWEN,
    count=("num_experts", "num_local_experts"),
    shared="num_shared_experts",
    correction="buffer",
)


def _style(config: Config) -> Style:
    """model_type "hunyuan" is that of files with code of their own (modeling_hunyuan.py).

    What no key turns on is off there; in the classes of transformers 5.23.0 it is on.
    """
    if config.raw.get("model_type") == "hunyuan":
        return _OWN_CODE
    return replace(_HUNYUAN, tie=config.raw.get("model_type") == "hunyuan_v1_dense")


def _hunyuan(config: Config) -> Model:
    """``use_cla``: only every ``cla_share_factor``-th layer owns keys and values."""
    config.require("use_mla", False)
    config.ignore("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim")
    config.ignore("v_head_dim", "q_lora_rank")
    style, own_code = _style(config), config.raw.get("model_type") == "hunyuan"
    heads, count = attention(config, style), layer_count(config)
    shares = config.flag("use_cla")
    factor = config.count("cla_share_factor", most=64) if shares else 1
    config.ignore("cla_share_factor")
    shared = replace(heads, kind="kv_shared")
    layers = [(shared if index % factor else heads,) for index in range(count)]

    def others() -> Sequence[Layer]:
        if shares:
            raise UncountedError(
                "use_cla is on: no published file says which norms those layers have"
            )
        return [(_forward(config, style, count, mixed=not own_code), norms(style))] * count

    return model(config, style, layers, others)


def _forward(config: Config, style: Style, layers: int, *, mixed: bool) -> Block:
    """An MLP, or experts and, ``use_mixed_mlp_moe``, shared ones as wide as the MLP."""
    count = config.same_size(layers, "num_experts", least=0) if config.has("num_experts") else 1
    if count <= 1:
        return mlp(config, style)
    if config.maybe("moe_layer_num_skipped", least=0):
        raise UncountedError("moe_layer_num_skipped is set")
    wide = config.has("moe_intermediate_size")
    width = config.same_size(layers, "moe_intermediate_size" if wide else "intermediate_size")
    return Experts(
        expert=MLP(width=width, bias=config.on(MLP_BIAS)),
        count=count,
        used=some_of(config, count, config.same_size(layers, "moe_topk"), "moe_topk"),
        shared=_shared(config, layers) if config.flag("use_mixed_mlp_moe", default=mixed) else None,
        router="gate.wg",
    )


def _shared(config: Config, layers: int) -> MLP:
    key = "num_shared_expert"
    number = config.same_size(layers, key, least=0) if config.has(key) else 1
    return MLP(width=config.size("intermediate_size") * (number or 1), root="mlp.shared_mlp")


FAMILIES: dict[str, Family] = {
    "hunyuan": Family(
        read=_hunyuan,
        architectures=("HunYuanForCausalLM",),
        classes=("hunyuandensev1", "hunyuanmoev1", "hunyuan"),
    ),
    "hunyuan_v1_dense": Family(read=_hunyuan, classes=("hunyuandensev1",)),
    "hunyuan_v1_moe": Family(read=_hunyuan, architectures=("HunYuanMoEV1ForCausalLM",)),
    "hy_v3": Family(read=decoder(_HY_V3, never, _HY_V3_EXPERTS, dense_first)),
}
