"""The vision tower of Muse Glimmer."""

from __future__ import annotations

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import Extra, Layer, Model, Norms, linear, vector
from kvplan.hf.blocks.mlp import MLP
from kvplan.hf.config import Config
from kvplan.hf.families.vision import vision_model

_PART = "vision"


def muse_glimmer(vision: Config, text: Config) -> Model:
    """MuseGlimmerVisionModel, a two-matrix adapter and a projection."""
    outer, hidden = vision.outer or vision, vision.size("hidden_size")
    patch, frames = vision.size("patch_size"), vision.size("patch_temporal")
    rows = vision.size("pos_emb_height") * vision.size("pos_emb_width")
    layer: Layer = (
        Norms(names=("norm1", "norm2"), bias=True),
        Attention(heads=1, kv=1, width=hidden, bias=True, out_bias=True, out="proj", root="attn"),
        MLP(width=vision.size("intermediate_size"), gated=False, bias=True, names=("fc1", "fc2")),
    )
    root, adapter = "model.vision_tower", "model.vision_adapter"
    embedder, middle = f"{root}.patch_embedder", outer.size("projector_hidden_size")
    seen, wide = outer.size("out_hidden_size"), text.size("hidden_size")
    tensors = (
        *linear(_PART, f"{embedder}.patch_embedding", hidden, 3 * frames * patch**2),
        *vector(_PART, f"{embedder}.position_embedding_table", rows, hidden),
        *linear(_PART, f"{adapter}.fc1", middle, seen),
        *linear(_PART, f"{adapter}.fc2", middle, middle),
        *linear(_PART, "model.vision_projection", wide, middle),
    )
    norms = Norms(names=(f"{root}.ln_pre", f"{root}.ln_post"), bias=True)
    layers = [layer] * vision.size("num_hidden_layers")
    return vision_model(hidden, f"{root}.layers", layers, (Extra(tensors=tensors), norms))
