"""Arcee's Trinity (AfmoeConfig): four norms, an output gate, a balancing bias that is learnt."""

from __future__ import annotations

from kvplan.hf.blocks.attention import Attention, Gate
from kvplan.hf.blocks.base import Layer
from kvplan.hf.config import Config
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import PRE_NORM, Style, decoder
from kvplan.hf.families.experts import Mixture, after_dense
from kvplan.hf.families.windows import mixed
from kvplan.hf.geometry import OWN_HEAD_DIM

_STYLE = Style(
    dialect=OWN_HEAD_DIM,
    qk_norm="head",
    norms=(*PRE_NORM, "pre_mlp_layernorm", "post_mlp_layernorm"),
    uncounted_if=("attention_bias",),
)
_EXPERTS = Mixture(
    count=("num_experts", "num_local_experts"),
    shared=("num_shared_experts",),
    correction="other",
    router="router.gate",
)


def _gate(_: Config, heads: Attention) -> Layer:
    return (Gate(rows=heads.heads * heads.width),)


FAMILIES: dict[str, Family] = {
    "afmoe": Family(
        read=decoder(
            _STYLE, mixed(pattern=("global_attn_every_n_layers",)), _EXPERTS, after_dense, _gate
        )
    ),
}
