"""MosaicML's MPT and Databricks' DBRX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import Layer, Model
from kvplan.hf.blocks.mlp import MLP, Experts
from kvplan.hf.config import Config, Figure, UncountedError, shown
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import Style, attention, mlp, model, norms
from kvplan.hf.families.experts import some_of
from kvplan.hf.geometry import Dialect
from kvplan.hf.layers import layer_count

_MPT = Style(
    dialect=Dialect(("n_heads",), ("d_model",), (), (), "heads"),
    layers=("n_layers",),
    hidden=("d_model",),
    fused="Wqkv",
    out="out_proj",
    attn_root="attn",
    norms=("norm_1", "norm_2"),
    gated=False,
    mlp_root="ffn",
    root="transformer.blocks",
    final="transformer.norm_f",
    ends=("transformer.wte", "lm_head"),
    tie=True,
)
_DBRX = replace(
    _MPT,
    attn_root="norm_attn_norm.attn",
    norms=("norm_attn_norm.norm_1", "norm_attn_norm.norm_2"),
    tie=False,
)


def _mpt(config: Config) -> Model:
    """``attn_config.attn_type`` says how many KV heads there are (MosaicML llm-foundry).

    The weights are counted without biases, which the norms do not have either (``no_bias``).
    """
    config.require("no_bias", True)
    section = config.section("attn_config")
    heads = _mpt_heads(config, section)
    count = layer_count(config, *_MPT.layers)

    def others() -> Sequence[Layer]:
        if section is not None and (section.flag("qk_ln") or heads.kv != heads.heads):
            raise UncountedError("attn_config asks for norms or fewer KV heads")
        if section is None or not section.flag("alibi"):
            raise UncountedError("attn_config.alibi is off: learned positions")
        width = (config.maybe("expansion_ratio") or 4) * config.size(*_MPT.hidden)
        return [(mlp(config, _MPT, width=width), norms(_MPT))] * count

    return model(config, _MPT, [(heads,)] * count, others)


def _mpt_heads(config: Config, section: Config | None) -> Attention:
    heads = attention(config, _MPT)
    if section is None:
        return heads
    section.require("sliding_window_size", -1)
    kind = section.word("attn_type")
    if kind == "multiquery_attention":
        return replace(heads, kv=Figure(1, kind.origin))
    if kind == "grouped_query_attention":
        return replace(heads, kv=section.count("kv_n_heads"))
    if kind not in (None, "multihead_attention"):
        config.refuse(f"attn_config.attn_type is {shown(kind)}, which is not known")
    return heads


def _dbrx(config: Config) -> Model:
    """KV heads stand in ``attn_config``, experts in ``ffn_config`` (DbrxConfig)."""
    section = config.section("attn_config")
    if section is None:
        config.missing("attn_config")
    heads = replace(attention(config, _DBRX), kv=section.count("kv_n_heads"))
    count = layer_count(config, *_DBRX.layers)

    def others() -> Sequence[Layer]:
        return [(_dbrx_experts(config), norms(_DBRX))] * count

    return model(config, _DBRX, [(heads,)] * count, others)


def _dbrx_experts(config: Config) -> Experts:
    ffn = config.section("ffn_config")
    if ffn is None:
        config.uncounted("ffn_config")
    count = ffn.size("moe_num_experts")
    return Experts(
        expert=MLP(width=ffn.size("ffn_hidden_size"), names=("w1", "v1", "w2")),
        count=count,
        used=some_of(ffn, count, ffn.size("moe_top_k"), "moe_top_k"),
        root="ffn",
        router="router.layer",
        experts="experts.mlp",
    )


FAMILIES: dict[str, Family] = {
    "dbrx": Family(read=_dbrx),
    "mpt": Family(read=_mpt),
}
