"""Muse Glimmer: four norms a layer, and an output gate as wide as the heads."""

from __future__ import annotations

from dataclasses import replace

from kvplan.hf.blocks.attention import Attention, Gate
from kvplan.hf.blocks.base import Layer
from kvplan.hf.config import Config
from kvplan.hf.families.base import Family, Wrapper
from kvplan.hf.families.decoder import OWN_WIDTH, SANDWICH, decoder
from kvplan.hf.families.muse_glimmer_vision import muse_glimmer
from kvplan.hf.families.windows import mixed


def _gate(_: Config, heads: Attention) -> Layer:
    return (Gate(rows=heads.heads * heads.width),)


FAMILIES: dict[str, Family] = {
    "muse_glimmer_text": Family(
        read=decoder(replace(OWN_WIDTH, norms=SANDWICH), mixed(), extra=_gate)
    )
}

WRAPPERS: dict[str, Wrapper] = {"muse_glimmer": Wrapper(tower=muse_glimmer)}
