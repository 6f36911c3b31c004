"""Pixtral, the vision tower of Mistral-3."""

from __future__ import annotations

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import Extra, Layer, Model, Norms, linear, vector
from kvplan.hf.blocks.mlp import MLP
from kvplan.hf.config import Config
from kvplan.hf.families.vision import vision_model

_PART = "vision"


def pixtral(vision: Config, text: Config) -> Model:
    """PixtralVisionModel and a projector that merges patches (Mistral3Config)."""
    outer = vision.outer or vision
    hidden, patch = vision.size("hidden_size"), vision.size("patch_size")
    merge = outer.size("spatial_merge_size") ** 2
    layer: Layer = (
        Norms(names=("attention_norm", "ffn_norm")),
        Attention(heads=1, kv=1, width=hidden, root="attention"),
        MLP(width=vision.size("intermediate_size"), root="feed_forward"),
    )
    projector, wide = "multi_modal_projector", text.size("hidden_size")
    bias, merger = outer.flag("multimodal_projector_bias"), f"{projector}.patch_merger"
    channels = vision.size("num_channels")
    tensors = (
        *vector(_PART, "vision_tower.patch_conv", hidden, channels, patch, patch),
        *linear(_PART, f"{merger}.merging_layer", hidden, merge * hidden),
        *linear(_PART, f"{projector}.linear_1", wide, hidden, bias=bias),
        *linear(_PART, f"{projector}.linear_2", wide, wide, bias=bias),
    )
    norms = Norms(names=("vision_tower.ln_pre", f"{projector}.norm"))
    layers = [layer] * vision.size("num_hidden_layers")
    root = "vision_tower.transformer.layers"
    return vision_model(hidden, root, layers, (Extra(tensors=tensors), norms))
