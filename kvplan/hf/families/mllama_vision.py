"""The vision tower of Llama-3.2 Vision."""

from __future__ import annotations

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import Extra, Layer, Model, Norms, Stack, Tensors, linear, vector
from kvplan.hf.blocks.mlp import MLP
from kvplan.hf.config import Config, UncountedError
from kvplan.hf.families.vision import vision_model

_PART, _ROOT = "vision", "vision_model"


def mllama(vision: Config, text: Config) -> Model:
    """MllamaVisionModel: tiles, a local and a gated global transformer."""
    hidden, width = vision.size("hidden_size"), vision.size("intermediate_size")
    if hidden % vision.size("attention_heads", "num_attention_heads"):
        raise UncountedError("hidden_size of the vision tower does not divide into its heads")
    layer: Layer = (
        Attention(heads=1, kv=1, width=hidden),
        MLP(width=width, gated=False, bias=True, names=("fc1", "fc2")),
        Norms(names=("input_layernorm", "post_attention_layernorm"), bias=True),
    )
    gates = Extra(tensors=(*vector(_PART, "gate_attn", 1), *vector(_PART, "gate_ffn", 1)))
    wide, seen = text.size("hidden_size"), vision.size("vision_output_dim")
    ends: Layer = (
        Extra(tensors=tuple(_embeddings(vision, hidden))),
        Norms(names=(f"{_ROOT}.layernorm_pre", f"{_ROOT}.layernorm_post"), bias=True),
        Extra(tensors=tuple(linear(_PART, "multi_modal_projector", wide, seen, bias=True))),
    )
    layers = [layer] * vision.size("num_hidden_layers")
    gated = ((*layer, gates),) * vision.size("num_global_layers")
    global_stack = Stack(root=f"{_ROOT}.global_transformer.layers", layers=gated)
    return vision_model(hidden, f"{_ROOT}.transformer.layers", layers, ends, global_stack)


def _embeddings(vision: Config, hidden: int) -> Tensors:
    """Patches, positions in a tile and of a tile, one set for each supported aspect ratio."""
    patch, tiles = vision.size("patch_size"), vision.size("max_num_tiles")
    ratios = vision.items("supported_aspect_ratios", list, "pairs of numbers")
    if ratios is None:
        vision.uncounted("supported_aspect_ratios")
    rows, shapes = (vision.size("image_size") // patch) ** 2 + 1, len(ratios) + 1
    channels, positions = vision.size("num_channels"), f"{_ROOT}.gated_positional_embedding"
    yield from vector(_PART, f"{_ROOT}.class_embedding", hidden)
    yield from vector(_PART, f"{_ROOT}.patch_embedding", hidden, channels, patch, patch)
    yield from vector(_PART, f"{positions}.gate", 1)
    yield from vector(_PART, f"{positions}.embedding", rows, hidden)
    yield from vector(_PART, f"{positions}.tile_embedding", shapes, tiles * rows * hidden)
    for name in ("pre_tile_positional_embedding", "post_tile_positional_embedding"):
        yield from vector(_PART, f"{_ROOT}.{name}.gate", 1)
        yield from vector(_PART, f"{_ROOT}.{name}.embedding", shapes, tiles * hidden)
