"""Muse Glimmer: four norms a layer, and an output gate as wide as the heads."""

from __future__ import annotations

from dataclasses import replace

from kvplan.hf.blocks.attention import Attention, Gate
from kvplan.hf.blocks.base import Layer
from kvplan.hf.config import Config, Figure
from kvplan.hf.families.base import Beside, Family, Wrapper
from kvplan.hf.families.decoder import OWN_WIDTH, SANDWICH, decoder, uncounted
from kvplan.hf.families.muse_glimmer_vision import muse_glimmer
from kvplan.hf.families.windows import WindowPlan, mixed
from kvplan.hf.layers import FULL, SLIDING


def _gate(_: Config, heads: Attention) -> Layer:
    return (Gate(rows=heads.heads * heads.width),)


def _full_from_the_end(config: Config, layers: Figure) -> WindowPlan:
    """Every fourth layer is full, the last one among them (MuseSparkTextConfig)."""
    return mixed(rule=lambda i: SLIDING if (layers - 1 - i) % 4 else FULL)(config, layers)


_SPARK = uncounted(decoder(OWN_WIDTH, _full_from_the_end), "no count of 'muse_spark_text' yet")

FAMILIES: dict[str, Family] = {
    "muse_spark_text": Family(read=_SPARK),
    "muse_glimmer_text": Family(
        read=decoder(replace(OWN_WIDTH, norms=SANDWICH), mixed(), extra=_gate)
    ),
}

WRAPPERS: dict[str, Wrapper] = {
    "muse_glimmer": Wrapper(tower=muse_glimmer),
    "muse_spark": Wrapper(
        text="muse_spark_text",
        beside=(Beside("vision_config", "vision tower"), Beside("audio_config", "audio tower")),
    ),
}
