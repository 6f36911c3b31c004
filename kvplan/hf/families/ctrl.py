"""Salesforce's CTRL."""

from __future__ import annotations

from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import Style, decoder
from kvplan.hf.geometry import Dialect

_CTRL = Style(
    dialect=Dialect(("n_head", "num_attention_heads"), ("n_embd", "hidden_size"), (), ()),
    layers=("n_layer", "num_hidden_layers"),
    hidden=("n_embd", "hidden_size"),
    width=("dff",),
    bias=True,
    out="dense",
    attn_root="multi_head_attention",
    gated=False,
    mlp_bias=True,
    mlp_root="ffn",
    mlp_names=("0", "2"),
    norms=("layernorm1", "layernorm2"),
    norm_bias=True,
    root="transformer.h",
    final="transformer.layernorm",
    ends=("transformer.w", "lm_head"),
    head_bias=True,
    tie=True,
)

FAMILIES: dict[str, Family] = {"ctrl": Family(read=decoder(_CTRL), classes=("ctrllmhead",))}
