"""Xiaohongshu's dots."""

from __future__ import annotations

from kvplan.hf import geometry as geo
from kvplan.hf.config import Config, Figure
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import ATTENTION_BIAS, Style, decoder
from kvplan.hf.families.experts import BALANCED, dense_first
from kvplan.hf.families.windows import WindowPlan, mixed
from kvplan.hf.layers import FULL, SLIDING


def _beyond_full_layers(config: Config, layers: Figure) -> WindowPlan:
    """Full attention up to ``max_window_layers``, which is all layers in what is published."""
    start = config.count("max_window_layers", least=0)
    slides = geo.window(config) is not None
    return mixed(rule=lambda index: SLIDING if slides and index >= start else FULL)(config, layers)


FAMILIES: dict[str, Family] = {
    "dots1": Family(
        read=decoder(
            Style(bias=ATTENTION_BIAS, qk_norm="head"), _beyond_full_layers, BALANCED, dense_first
        )
    ),
}
