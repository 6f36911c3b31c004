"""Sarvam's and BharatGen's experts: GLM-4.5's layers under other names, and DeepSeek's."""

from __future__ import annotations

from dataclasses import replace

from kvplan.hf.blocks.base import Model
from kvplan.hf.config import Config, Figure
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import Style, decoder
from kvplan.hf.families.experts import BALANCED, dense_first
from kvplan.hf.families.latent import latent_decoder
from kvplan.hf.families.windows import WindowPlan, never
from kvplan.hf.layers import drafts

_EXPERTS = replace(
    BALANCED,
    count=("num_experts", "n_routed_experts"),
    shared=("num_shared_experts", "n_shared_experts"),
)
_SARVAM = Style(qk_norm="head", qk_norm_key=("use_qk_norm", True), out_bias=False)
_PARAM2 = Style(
    bias=("use_qkv_bias", False),
    out_bias=("use_bias", False),
    qk_norm="head",
    qk_norm_key=("use_qk_norm", False),
    qk_norm_names=("q_layernorm", "k_layernorm"),
)
_MTP = ("num_mtp_layers", "num_nextn_predict_layers")


def _full(config: Config, layers: Figure) -> WindowPlan:
    return replace(never(config, layers), draft=drafts(config, *_MTP))


def _sarvam(config: Config) -> Model:
    """``use_qkv_bias`` in the first files, ``attention_bias`` in later ones (SarvamMoEConfig)."""
    key = "use_qkv_bias" if config.has("use_qkv_bias") else "attention_bias"
    config.ignore("use_qkv_bias", "attention_bias", "use_bias")
    style = replace(_SARVAM, bias=(key, False))
    return decoder(style, _full, _EXPERTS, dense_first)(config)


FAMILIES: dict[str, Family] = {
    "sarvam_moe": Family(read=_sarvam, classes=("sarvammoe", "glm4moe")),
    "sarvam_mla": Family(read=latent_decoder(_EXPERTS), classes=("sarvammla", "deepseekv3")),
    "param2moe": Family(read=decoder(_PARAM2, _full, _EXPERTS, dense_first)),
}
