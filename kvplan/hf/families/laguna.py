"""Poolside's Laguna: attention heads that differ by layer, and a gate a head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvplan.hf.blocks.attention import Attention, head_gate
from kvplan.hf.blocks.base import Model
from kvplan.hf.config import Config
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import OWN_WIDTH, attention, stack
from kvplan.hf.families.experts import QWEN_SHARED, but_the_first
from kvplan.hf.families.windows import by_name
from kvplan.hf.geometry import WINDOW_KEYS
from kvplan.hf.layers import layer_count, layer_types

_STYLE = replace(OWN_WIDTH, qk_norm="head")
_EXPERTS = replace(QWEN_SHARED, shared_gate=False, correction="other")
_PER_LAYER = "num_attention_heads_per_layer"


def _laguna(config: Config) -> Model:
    """``num_attention_heads_per_layer`` beside ``layer_types`` (LagunaConfig)."""
    config.require("gating", "per-head", True)
    count, base = layer_count(config), attention(config, _STYLE)
    windows = by_name(config, layer_types(config, count, None))
    config.ignore(*WINDOW_KEYS)
    layers = [(block,) for block in _blocks(config, base, windows)]
    return stack(config, _STYLE, layers, _EXPERTS, but_the_first, beside=head_gate)


def _blocks(config: Config, base: Attention, windows: Sequence[int | None]) -> list[Attention]:
    """Each layer's attention; layers of equal heads and window are one block."""
    counts = config.per_layer(_PER_LAYER, config.numbers(_PER_LAYER), len(windows))
    known: dict[tuple[int, int | None], Attention] = {}
    blocks = []
    for index, window in enumerate(windows):
        heads = config.within(_PER_LAYER, counts[index], 1, 10_000) if counts else base.heads
        block = replace(base, heads=heads)
        made = block.sliding(window) if window else block
        blocks.append(known.setdefault((heads, window), made))
    return blocks


FAMILIES: dict[str, Family] = {"laguna": Family(read=_laguna)}
