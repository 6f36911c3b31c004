"""Aleph Alpha's Kolibri: Qwen-3's attention between four norms, experts on every layer."""

from __future__ import annotations

from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import PRE_NORM, Style, decoder
from kvplan.hf.families.experts import Mixture
from kvplan.hf.families.windows import mixed
from kvplan.hf.geometry import OWN_HEAD_DIM

_STYLE = Style(
    dialect=OWN_HEAD_DIM,
    qk_norm="head",
    norms=(*PRE_NORM, "post_self_attn_layernorm", "post_mlp_layernorm"),
)
_EXPERTS = Mixture(
    count=("num_experts", "num_local_experts"),
    shared_width=("shared_expert_intermediate_size",),
    correction="buffer",
)

FAMILIES: dict[str, Family] = {
    "kolibri1": Family(read=decoder(_STYLE, mixed(every=5), _EXPERTS)),
}
