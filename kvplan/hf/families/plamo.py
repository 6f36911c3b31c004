"""Preferred Networks' PLaMo-3: four norms, and a window on most layers (vLLM 0.33.0 plamo3.py)."""

from __future__ import annotations

from kvplan.hf.config import MAX_TOKENS, Config, Figure, shown
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import Style, decoder
from kvplan.hf.families.windows import WindowPlan, mixed
from kvplan.hf.geometry import OWN_HEAD_DIM
from kvplan.hf.layers import FULL, SLIDING

_PLAMO3 = Style(
    dialect=OWN_HEAD_DIM,
    qk_norm="head",
    fused="qkv_proj",
    attn_root="mixer",
    norms=("pre_mixer_norm", "post_mixer_norm", "pre_mlp_norm", "post_mlp_norm"),
    mlp_names=("gate_up_proj", "down_proj"),
    root="model.layers.layers",
    tie=None,
)


def _windows(config: Config, layers: Figure) -> WindowPlan:
    """A list of windows, null where a layer has none, or one window and which layers have it."""
    key, value = config.value("interleaved_sliding_window", "sliding_window")
    if not isinstance(value, list):
        return mixed(pattern=("sliding_window_pattern",))(config, layers)
    config.ignore("sliding_window_pattern", "window_size")
    spans = config.per_layer(key, value, layers) or ()
    windows = [None if span is None else config.within(key, span, 1, MAX_TOKENS) for span in spans]
    types = config.per_layer("layer_types", config.words("layer_types"), layers)
    if types is not None and list(types) != [SLIDING if span else FULL for span in windows]:
        config.refuse(f"layer_types and {config.name(key)}, {shown(value)}, contradict each other")
    return WindowPlan(windows)


FAMILIES: dict[str, Family] = {"plamo3": Family(read=decoder(_PLAMO3, _windows))}
