"""Reflection's Beam: a window on most layers, an output gate with a bias a head, experts."""

from __future__ import annotations

from kvplan.hf.blocks.attention import Attention, Gate
from kvplan.hf.blocks.base import Layer, extra, vector
from kvplan.hf.config import Config
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import ATTENTION_BIAS, SANDWICH, Style, decoder
from kvplan.hf.families.experts import Mixture, dense_first
from kvplan.hf.families.windows import mixed
from kvplan.hf.geometry import OWN_HEAD_DIM

_STYLE = Style(dialect=OWN_HEAD_DIM, bias=ATTENTION_BIAS, qk_norm="head", norms=SANDWICH)
_EXPERTS = Mixture(count=("num_experts",), correction="buffer")


def _gate(_: Config, heads: Attention) -> Layer:
    gate = Gate(rows=heads.heads * heads.width)
    return (gate, extra(vector("attention", "self_attn.gate_bias", heads.heads)))


FAMILIES: dict[str, Family] = {
    "beam": Family(read=decoder(_STYLE, mixed(), _EXPERTS, dense_first, _gate)),
}
