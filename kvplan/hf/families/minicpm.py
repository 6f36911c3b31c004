"""MiniCPM: Llama's layers, tied (its own modeling_minicpm.py); latent attention in the third."""

from __future__ import annotations

from dataclasses import replace

from kvplan.hf import geometry as geo
from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import Layer, Model
from kvplan.hf.config import Config, UncountedError
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import LLAMA, decoder
from kvplan.hf.families.latent import LATENT, latent_decoder


def _refuse_experts(config: Config, _: Attention) -> Layer:
    if config.has("num_experts"):
        raise UncountedError("num_experts is set: MiniCPM-MoE is not counted")
    return ()


def _minicpm3(config: Config) -> Model:
    """MLA; ``v_head_dim`` is hidden size over heads where absent (MiniCPM3Config)."""
    if not config.has("v_head_dim"):
        width = geo.quotient(
            config, config.count("hidden_size"), config.count("num_attention_heads")
        )
        config = replace(config, raw={**config.raw, "v_head_dim": int(width)})
    return latent_decoder(None, replace(LATENT, tie=True))(config)


FAMILIES: dict[str, Family] = {
    "minicpm": Family(read=decoder(replace(LLAMA, tie=True), extra=_refuse_experts)),
    "minicpm3": Family(read=_minicpm3),
}
