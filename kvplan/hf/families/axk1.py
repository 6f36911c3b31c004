"""SK Telecom's A.X-K1: DeepSeek-V3 with a norm after the experts (AXK1Config)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvplan.hf.blocks.base import Layer, Model, Norms
from kvplan.hf.blocks.mlp import Experts
from kvplan.hf.config import Config
from kvplan.hf.families.base import Family
from kvplan.hf.families.experts import BALANCED
from kvplan.hf.families.latent import latent_decoder


def _axk1(config: Config) -> Model:
    plain = latent_decoder(BALANCED)(config)
    after = Norms(names=("mlp.post_mlp_layernorm",))

    def others() -> Sequence[Layer]:
        layers = plain.others()
        return [(*layer, after) if isinstance(layer[0], Experts) else layer for layer in layers]

    return replace(plain, others=others)


FAMILIES: dict[str, Family] = {"axk1": Family(read=_axk1)}
