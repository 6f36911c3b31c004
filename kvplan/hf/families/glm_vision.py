"""The vision tower of GLM-4.1V, 4.5V and 4.6V."""

from __future__ import annotations

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import Extra, Layer, Model, Norms, Tensors, linear, norm, vector
from kvplan.hf.blocks.mlp import MLP
from kvplan.hf.config import Config
from kvplan.hf.families.vision import vision_model

_PART, _ROOT = "vision", "model.visual"


def glm4v(vision: Config, _: Config) -> Model:
    """Glm4vVisionModel: MLPs as wide as the output, the merger as wide as ``intermediate_size``."""
    hidden, out = vision.size("hidden_size"), vision.size("out_hidden_size")
    heads = Attention(
        heads=1,
        kv=1,
        width=hidden,
        bias=vision.flag("attention_bias"),
        out_bias=False,
        fused="qkv",
        out="proj",
        root="attn",
    )
    layer: Layer = (Norms(names=("norm1", "norm2")), heads, MLP(width=out))
    final = Norms(names=(f"{_ROOT}.post_conv_layernorm", f"{_ROOT}.post_layernorm"))
    joined = merger(vision, hidden, out, vision.size("intermediate_size"))
    front = Extra(tensors=(*_patches(vision, hidden), *joined))
    layers = [layer] * vision.size("depth")
    return vision_model(hidden, f"{_ROOT}.blocks", layers, (front, final))


def _patches(vision: Config, hidden: int) -> Tensors:
    """Filters and their positions."""
    yield from filters(vision, hidden)
    side = vision.size("image_size") // vision.size("patch_size")
    yield from vector(_PART, f"{_ROOT}.embeddings.position_embedding", side**2, hidden)


def filters(vision: Config, hidden: int) -> Tensors:
    """Of patches of several frames (3 channels by default)."""
    patch, frames = vision.size("patch_size"), vision.size("temporal_patch_size")
    channels, name = vision.maybe("in_channels") or 3, f"{_ROOT}.patch_embed.proj"
    yield from vector(_PART, name, hidden, channels, frames, patch, patch)
    yield from vector(_PART, f"{name}.bias", hidden)


def merger(vision: Config, hidden: int, out: int, width: int) -> Tensors:
    """A convolution that joins ``spatial_merge_size`` squared patches, and a gated MLP."""
    root, side = f"{_ROOT}.merger", vision.size("spatial_merge_size")
    yield from vector(_PART, f"{_ROOT}.downsample", out, hidden, side, side)
    yield from vector(_PART, f"{_ROOT}.downsample.bias", out)
    yield from linear(_PART, f"{root}.proj", out, out)
    yield from norm(f"{root}.post_projection_norm", out, bias=True, part=_PART)
    yield from linear(_PART, f"{root}.gate_proj", width, out)
    yield from linear(_PART, f"{root}.up_proj", width, out)
    yield from linear(_PART, f"{root}.down_proj", out, width)
