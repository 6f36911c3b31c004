"""InternViT, the vision tower of InternVL as transformers has it (InternVLVisionModel)."""

from __future__ import annotations

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import Extra, Layer, Model, Norms, extra, linear, norm, vector
from kvplan.hf.blocks.mlp import MLP
from kvplan.hf.config import MAX_SIZE, Config, UncountedError, shown
from kvplan.hf.families.vision import vision_model

_PART = "vision"
_ROOT = "vision_tower"


def internvl(vision: Config, text: Config) -> Model:
    """Scaled branches, a class token, and a projector over four patches side by side."""
    kind = vision.word("model_type")
    if kind != "internvl_vision":
        raise UncountedError(f"no count of a tower of type {shown(str(kind))} yet")
    vision.uncounted_if("use_mask_token")
    hidden = vision.size("hidden_size")
    plain = vision.word("norm_type") in (None, "layer_norm")
    bias, normed = vision.flag("attention_bias"), vision.flag("use_qk_norm")
    scales = (vector(_PART, f"lambda_{index}", hidden) for index in (1, 2))
    layer: Layer = (
        Norms(names=("layernorm_before", "layernorm_after"), bias=plain),
        Attention(
            heads=1,
            kv=1,
            width=hidden,
            bias=bias,
            out_bias=True,
            out="projection_layer",
            qk_norm="all" if normed else "",
            root="attention",
        ),
        MLP(width=vision.size("intermediate_size"), gated=False, bias=True, names=("fc1", "fc2")),
        extra(*scales),
    )
    layers = [layer] * vision.size("num_hidden_layers")
    ends: Layer = (_front(vision, hidden), _projector(vision, text, hidden))
    if not vision.flag("use_mean_pooling", default=True):
        ends = (*ends, Norms(names=(f"{_ROOT}.layernorm",), bias=True))
    return vision_model(hidden, f"{_ROOT}.encoder.layer", layers, ends)


def _front(vision: Config, hidden: int) -> Extra:
    sides, patches = _pair(vision, "image_size"), _pair(vision, "patch_size")
    root, channels = f"{_ROOT}.embeddings", vision.size("num_channels")
    tokens = (sides[0] // patches[0]) * (sides[1] // patches[1])
    groups = [
        vector(_PART, f"{root}.patch_embeddings.projection", hidden, channels, *patches),
        vector(_PART, f"{root}.patch_embeddings.projection.bias", hidden),
        vector(_PART, f"{root}.cls_token", hidden),
    ]
    if vision.flag("use_absolute_position_embeddings"):
        groups.append(vector(_PART, f"{root}.position_embeddings", tokens + 1, hidden))
    return extra(*groups)


def _pair(vision: Config, key: str) -> tuple[int, int]:
    """Height and width, which may be one number."""
    if not isinstance(vision.raw.get(key), list):
        side = vision.size(key)
        return side, side
    given = vision.numbers(key) or ()
    if len(given) != len(("height", "width")):
        raise UncountedError(f"{vision.name(key)} is not a height and a width")
    height, width = (int(vision.within(key, side, 1, MAX_SIZE)) for side in given)
    return height, width


def _projector(vision: Config, text: Config, hidden: int) -> Extra:
    outer, wide, root = vision.outer or vision, text.size("hidden_size"), "multi_modal_projector"
    ratio = outer.raw.get("downsample_ratio", 0.5)
    if ratio != 1 / 2:
        raise UncountedError(f"downsample_ratio is {shown(ratio)}, not 0.5")
    seen = hidden * 4
    return extra(
        norm(f"{root}.layer_norm", seen, bias=True, part=_PART),
        linear(_PART, f"{root}.linear_1", wide, seen, bias=True),
        linear(_PART, f"{root}.linear_2", wide, wide, bias=True),
    )
