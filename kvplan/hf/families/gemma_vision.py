"""The vision towers of Gemma-3 and 4."""

from __future__ import annotations

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import Extra, Layer, Model, Norms, buffer, linear, vector
from kvplan.hf.blocks.mlp import MLP
from kvplan.hf.config import Config, UncountedError
from kvplan.hf.families.vision import vision_model

_PART = "vision"


def siglip(vision: Config, text: Config) -> Model:
    """Gemma-3: SiglipVisionModel (3 channels by default) and a projector.

    Google's files turn the pooling head off; a file that does not name it has one
    (SiglipVisionConfig of transformers 4.40 to 5.24).
    """
    hidden = vision.size("hidden_size")
    layer: Layer = (
        Norms(names=("layer_norm1", "layer_norm2"), bias=True),
        Attention(heads=1, kv=1, width=hidden, bias=True, out_bias=True, out="out_proj"),
        MLP(width=vision.size("intermediate_size"), gated=False, bias=True, names=("fc1", "fc2")),
    )
    root = "vision_tower.vision_model"
    patch, side = vision.size("patch_size"), vision.size("image_size")
    embeddings, channels = f"{root}.embeddings", vision.maybe("num_channels") or 3
    projector, wide = "multi_modal_projector", text.size("hidden_size")
    tensors = (
        *vector(_PART, f"{embeddings}.patch_embedding", hidden, channels, patch, patch),
        *vector(_PART, f"{embeddings}.patch_embedding.bias", hidden),
        *vector(_PART, f"{embeddings}.position_embedding", (side // patch) ** 2, hidden),
        *vector(_PART, f"{projector}.mm_input_projection_weight", hidden, wide),
    )
    ends: Layer = (
        Extra(tensors=tensors),
        Norms(names=(f"{root}.post_layernorm",), bias=True),
        Norms(names=(f"{projector}.mm_soft_emb_norm",)),
        *(_pooling_head(vision, f"{root}.head") if _pools(vision) else ()),
    )
    layers = [layer] * vision.size("num_hidden_layers")
    return vision_model(hidden, f"{root}.encoder.layers", layers, ends)


def _pools(vision: Config) -> bool:
    return vision.flag("vision_use_head", default=True)


def _pooling_head(vision: Config, root: str) -> Layer:
    """SiglipMultiheadAttentionPoolingHead: a learnt query, its attention and an MLP."""
    hidden, attention = vision.size("hidden_size"), f"{root}.attention"
    tensors = (
        *vector(_PART, f"{root}.probe", hidden),
        *vector(_PART, f"{attention}.in_proj_weight", 3 * hidden, hidden),
        *vector(_PART, f"{attention}.in_proj_bias", 3 * hidden),
        *linear(_PART, f"{attention}.out_proj", hidden, hidden, bias=True),
    )
    width, names = vision.size("intermediate_size"), ("fc1", "fc2")
    return (
        Extra(tensors=tensors),
        Norms(names=(f"{root}.layernorm",), bias=True),
        MLP(width=width, gated=False, bias=True, names=names, root=f"{root}.mlp"),
    )


def gemma4(vision: Config, text: Config) -> Model:
    """Gemma4VisionModel: ``standardize`` keeps two buffers, ``use_clipped_linears`` more."""
    if vision.flag("use_clipped_linears"):
        raise UncountedError("use_clipped_linears is on, whose bounds are stored as well")
    hidden, patch = vision.size("hidden_size"), vision.size("patch_size")
    bias = vision.flag("attention_bias")
    heads = Attention(
        heads=vision.size("num_attention_heads"),
        kv=vision.size("num_key_value_heads"),
        width=vision.size("head_dim"),
        bias=bias,
        out_bias=bias,
        qk_norm="head",
    )
    names = ("input", "post_attention", "pre_feedforward", "post_feedforward")
    norms = Norms(names=tuple(f"{name}_layernorm" for name in names))
    root = "model.vision_tower"
    embedder, projection = f"{root}.patch_embedder", "model.embed_vision.embedding_projection"
    positions = vision.size("position_embedding_size")
    tensors = (
        *vector(_PART, f"{embedder}.position_embedding_table", 2, positions, hidden),
        *linear(_PART, f"{embedder}.input_proj", hidden, 3 * patch**2),
        *linear(_PART, projection, text.size("hidden_size"), hidden),
    )
    if vision.flag("standardize"):
        tensors += tuple(buffer(_PART, f"{root}.std_bias", hidden, dtype=None))
        tensors += tuple(buffer(_PART, f"{root}.std_scale", hidden, dtype=None))
    layer = (heads, MLP(width=vision.size("intermediate_size")), norms)
    layers = [layer] * vision.size("num_hidden_layers")
    return vision_model(hidden, f"{root}.encoder.layers", layers, (Extra(tensors=tensors),))
