"""The vision tower of Llama-4."""

from __future__ import annotations

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import Extra, Layer, Model, Norms, linear, vector
from kvplan.hf.blocks.mlp import MLP
from kvplan.hf.config import Config, UncountedError
from kvplan.hf.families.vision import vision_model

_PART, _ROOT = "vision", "vision_model"


def llama4(vision: Config, text: Config) -> Model:
    """Llama4VisionModel: pixel shuffle halves the sides, an adapter of two matrices."""
    if vision.flag("multi_modal_projector_bias"):
        raise UncountedError("multi_modal_projector_bias is on")
    hidden, width = vision.size("hidden_size"), vision.size("intermediate_size")
    patch, side = vision.size("patch_size"), vision.size("image_size")
    layer: Layer = (
        Attention(heads=1, kv=1, width=hidden, bias=True, out_bias=True),
        MLP(width=width, gated=False, bias=True, names=("fc1", "fc2")),
        Norms(names=("input_layernorm", "post_attention_layernorm"), bias=True),
    )
    middle, out = vision.size("projector_input_dim"), vision.size("projector_output_dim")
    channels, adapter = vision.size("num_channels"), f"{_ROOT}.vision_adapter.mlp"
    positions, seen = (side // patch) ** 2 + 1, vision.size("vision_output_dim")
    projector, wide = "multi_modal_projector.linear_1", text.size("hidden_size")
    tensors = (
        *vector(_PART, f"{_ROOT}.class_embedding", hidden),
        *vector(_PART, f"{_ROOT}.positional_embedding_vlm", positions, hidden),
        *linear(_PART, f"{_ROOT}.patch_embedding.linear", hidden, channels * patch**2),
        *linear(_PART, f"{adapter}.fc1", middle, width),
        *linear(_PART, f"{adapter}.fc2", out, middle),
        *linear(_PART, projector, wide, seen),
    )
    norms = Norms(names=(f"{_ROOT}.layernorm_pre", f"{_ROOT}.layernorm_post"), bias=True)
    layers = [layer] * vision.size("num_hidden_layers")
    return vision_model(hidden, f"{_ROOT}.model.layers", layers, (Extra(tensors=tensors), norms))
