"""GPT-2 and what descends from it, GPT-NeoX, StarCoder and gpt-oss."""

from __future__ import annotations

from dataclasses import replace

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.mlp import GATED
from kvplan.hf.config import Config, Figure
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import Style, attention, decoder
from kvplan.hf.families.experts import MIXTRAL
from kvplan.hf.families.windows import always, full, mixed
from kvplan.hf.geometry import OWN_HEAD_DIM, Dialect
from kvplan.hf.quantization import Published

_HEADS = Dialect(("n_head", "num_attention_heads"), ("n_embd", "hidden_size"), (), (), "heads")
_GPT2 = Style(
    dialect=_HEADS,
    layers=("n_layer", "num_hidden_layers"),
    hidden=("n_embd", "hidden_size"),
    width=("n_inner",),
    widening=4,
    positions=("n_positions", "max_position_embeddings"),
    bias=True,
    fused="c_attn",
    out="c_proj",
    attn_root="attn",
    gated=False,
    mlp_bias=True,
    mlp_names=("c_fc", "c_proj"),
    norms=("ln_1", "ln_2"),
    norm_bias=True,
    root="transformer.h",
    final="transformer.ln_f",
    ends=("transformer.wte", "lm_head"),
    tie=True,
)
_GPTJ = replace(
    _GPT2,
    positions=(),
    bias=False,
    fused="",
    out="out_proj",
    mlp_names=("fc_in", "fc_out"),
    norms=("ln_1",),
    head_bias=True,
    tie=False,
)
_GPT_NEOX = Style(
    dialect=Dialect(kv=(), head_dim=(), kv_absent="heads"),
    bias=("attention_bias", True),
    norm_bias=True,
    gated=False,
    mlp_bias=True,
    mlp_names=("dense_h_to_4h", "dense_4h_to_h"),
    fused="query_key_value",
    out="dense",
    attn_root="attention",
    root="gpt_neox.layers",
    final="gpt_neox.final_layer_norm",
    ends=("gpt_neox.embed_in", "embed_out"),
)
_STARCODER2 = Style(
    bias=("use_bias", True),
    norm_bias=True,
    gated=False,
    mlp_bias=("use_bias", True),
    mlp_names=("c_fc", "c_proj"),
    tie=True,
)
_GPT_OSS = Style(dialect=OWN_HEAD_DIM, bias=("attention_bias", True), sinks="sinks")
_GPT_OSS_EXPERTS = replace(
    MIXTRAL,
    used=("num_experts_per_tok", "experts_per_token"),
    root="mlp",
    router="router",
    router_bias=True,
    bias=True,
    names=GATED,
)


def _bigcode_heads(config: Config, style: Style) -> Attention:
    """``multi_query`` is one KV head (GPTBigCodeConfig)."""
    heads = attention(config, style)
    if config.flag("multi_query", default=None):
        return replace(heads, kv=Figure(1, config.name("multi_query")))
    return heads


FAMILIES: dict[str, Family] = {
    "gpt2": Family(read=decoder(_GPT2)),
    "gpt_bigcode": Family(read=decoder(_GPT2, full, heads=_bigcode_heads)),
    "gptj": Family(read=decoder(_GPTJ)),
    "gpt_neox": Family(read=decoder(_GPT_NEOX)),
    "starcoder2": Family(read=decoder(_STARCODER2, always)),
    "gpt_oss": Family(
        read=decoder(_GPT_OSS, mixed(every=2), _GPT_OSS_EXPERTS),
        published=Published(mxfp4_experts=True),
    ),
}
