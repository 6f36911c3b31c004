"""Zhipu's GLM: dense, with experts, with latent and sparse attention."""

from __future__ import annotations

from dataclasses import replace

from kvplan.hf.blocks.base import Model
from kvplan.hf.config import Config
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import ATTENTION_BIAS, PRE_NORM, Style, decoder
from kvplan.hf.families.experts import BALANCED, DEEPSEEK, by_topk_method, dense_first
from kvplan.hf.families.latent import latent_decoder, sparse_decoder
from kvplan.hf.families.windows import never
from kvplan.hf.geometry import DENSE, OWN_HEAD_DIM

_GLM = Style(
    dialect=OWN_HEAD_DIM,
    bias=("attention_bias", True),
    out_bias=False,
    mlp_names=("gate_up_proj", "down_proj"),
)
_GLM4 = replace(_GLM, norms=(*PRE_NORM, "post_self_attn_layernorm", "post_mlp_layernorm"))
_GLM4_MOE = Style(
    bias=ATTENTION_BIAS, out_bias=False, qk_norm="head", qk_norm_key=("use_qk_norm", False)
)
_GLM4V_MOE = Style(bias=("attention_bias", True), out_bias=False)


def _glm4v(config: Config) -> Model:
    """Biases that no key takes away (Glm4vTextAttention)."""
    config.ignore("attention_bias")
    return decoder(replace(_GLM4, dialect=DENSE, bias=True))(config)


FAMILIES: dict[str, Family] = {
    "glm": Family(read=decoder(_GLM)),
    "glm4": Family(read=decoder(_GLM4)),
    "glm4v_text": Family(read=_glm4v),
    "glm4_moe": Family(read=decoder(_GLM4_MOE, never, BALANCED, dense_first)),
    "glm4v_moe_text": Family(read=decoder(_GLM4V_MOE, never, BALANCED, dense_first)),
    "glm4_moe_lite": Family(read=latent_decoder(BALANCED)),
    "glm_moe_dsa": Family(read=sparse_decoder(replace(DEEPSEEK, correction=by_topk_method))),
    "solar_open": Family(read=decoder(Style(bias=ATTENTION_BIAS, out_bias=False), never, BALANCED)),
}
