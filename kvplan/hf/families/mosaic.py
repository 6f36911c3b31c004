"""MosaicML's MPT and Databricks' DBRX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import Block
from kvplan.hf.config import Config, Figure, UncountedError, shown
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import Style, attention, decoder, mlp
from kvplan.hf.families.experts import Mixture, experts
from kvplan.hf.families.windows import full
from kvplan.hf.geometry import Dialect

_MPT = Style(
    dialect=Dialect(("n_heads",), ("d_model",), (), ()),
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


_DBRX_EXPERTS = Mixture(
    count=("moe_num_experts",),
    used=("moe_top_k",),
    width=("ffn_hidden_size",),
    names=("w1", "v1", "w2"),
    root="ffn",
    router="router.layer",
    experts="experts.mlp",
)


def _mpt_heads(config: Config, style: Style) -> Attention:
    """``attn_config.attn_type`` says how many KV heads there are (MosaicML llm-foundry).

    The weights are counted without biases, which the norms do not have either (``no_bias``).
    """
    config.require("no_bias", True)
    section, heads = config.section("attn_config"), attention(config, style)
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


def _mpt_mlp(config: Config, style: Style, layers: int) -> Sequence[Block]:
    section = config.section("attn_config")
    heads = _mpt_heads(config, style)
    if section is not None and (section.flag("qk_ln") or heads.kv != heads.heads):
        raise UncountedError("attn_config asks for norms or fewer KV heads")
    # MptAttentionConfig has ALiBi, and transformers 4.40 saves what it has as nothing but a type.
    if section is None or not section.flag("alibi", default=section.mentions("model_type")):
        raise UncountedError("attn_config.alibi is off: learned positions")
    width = (config.maybe("expansion_ratio") or 4) * config.size(*style.hidden)
    return [mlp(config, style, width=width)] * layers


def _dbrx_heads(config: Config, style: Style) -> Attention:
    """KV heads stand in ``attn_config`` (DbrxConfig)."""
    section = config.section("attn_config")
    if section is None:
        config.missing("attn_config")
    return replace(attention(config, style), kv=section.count("kv_n_heads"))


def _dbrx_experts(config: Config, _: Style, layers: int) -> Sequence[Block]:
    ffn = config.section("ffn_config")
    if ffn is None:
        config.uncounted("ffn_config")
    return [experts(ffn, _DBRX_EXPERTS, layers)] * layers


FAMILIES: dict[str, Family] = {
    "dbrx": Family(read=decoder(_DBRX, full, heads=_dbrx_heads, forward=_dbrx_experts)),
    "mpt": Family(read=decoder(_MPT, full, heads=_mpt_heads, forward=_mpt_mlp)),
}
