"""SK Telecom's A.X-K1: DeepSeek-V3 with a norm after the experts (AXK1Config)."""

from __future__ import annotations

from dataclasses import replace

from kvplan.hf.families.base import Family
from kvplan.hf.families.experts import BALANCED
from kvplan.hf.families.latent import latent_decoder

_EXPERTS = replace(BALANCED, norm="mlp.post_mlp_layernorm")

FAMILIES: dict[str, Family] = {"axk1": Family(read=latent_decoder(_EXPERTS))}
