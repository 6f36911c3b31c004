"""Vision towers of CLIP's and SigLIP's layers, and the projectors that stand behind them.

Shapes: transformers 5.24.0 (CLIPVisionModel, SiglipVisionModel without the pooling head).
"""

from __future__ import annotations

from collections.abc import Callable

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import Extra, Layer, Model, Norms, extra, linear, norm, vector
from kvplan.hf.blocks.mlp import MLP
from kvplan.hf.config import Config, UncountedError, shown
from kvplan.hf.families.base import Tower
from kvplan.hf.families.vision import vision_model

_PART = "vision"
_ROOT = "vision_tower"
_CLIP = "clip_vision_model"
_SIGLIP = (
    *("siglip_vision_model", "idefics3_vision", "idefics3", "smolvlm_vision"),
    *("paddleocr_vl_vision", "paddleocr_vl"),
)

Projector = Callable[[Config, Config], Extra]
"""What leads from the tower to the text, by the sections of both. Raises UncountedError."""


def tower(projector: Projector, *, newline: bool = False) -> Tower:
    """CLIP or SigLIP, as the section says, with this projector.

    ``newline`` is one more vector of the text's width, which ends a row of tiles.
    """

    def read(vision: Config, text: Config) -> Model:
        hidden = vision.size("hidden_size")
        layer: Layer = (
            Norms(names=("layer_norm1", "layer_norm2"), bias=True),
            Attention(heads=1, kv=1, width=hidden, bias=True, out_bias=True, out="out_proj"),
            MLP(
                width=vision.size("intermediate_size"), gated=False, bias=True, names=("fc1", "fc2")
            ),
        )
        last = Norms(names=(f"{_ROOT}.post_layernorm",), bias=True)
        ends: Layer = (_front(vision, hidden), last, projector(vision, text))
        if newline:
            ends = (*ends, extra(vector(_PART, "image_newline", text.size("hidden_size"))))
        layers = [layer] * vision.size("num_hidden_layers")
        return vision_model(hidden, f"{_ROOT}.encoder.layers", layers, ends)

    return read


def _front(vision: Config, hidden: int) -> Extra:
    """Patches and positions; CLIP has a class token and a norm before its layers."""
    kind = vision.word("model_type")
    if kind != _CLIP and kind not in _SIGLIP:
        raise UncountedError(f"no count of a tower of type {shown(str(kind))} yet")
    if kind == "siglip_vision_model" and vision.flag("vision_use_head", default=True):
        raise UncountedError("its pooling head, vision_use_head, is not counted")
    patch, side, channels = vision.size("patch_size"), vision.size("image_size"), _channels(vision)
    root, patches = f"{_ROOT}.embeddings", (side // patch) ** 2
    filters = vector(_PART, f"{root}.patch_embedding", hidden, channels, patch, patch)
    if kind == _CLIP:
        return extra(
            filters,
            vector(_PART, f"{root}.class_embedding", hidden),
            vector(_PART, f"{root}.position_embedding", patches + 1, hidden),
            norm(f"{_ROOT}.pre_layrnorm", hidden, bias=True, part=_PART),
        )
    return extra(
        filters,
        vector(_PART, f"{root}.patch_embedding.bias", hidden),
        vector(_PART, f"{root}.position_embedding", patches, hidden),
    )


def _channels(vision: Config) -> int:
    return vision.maybe("num_channels") or 3


def two_layers(vision: Config, text: Config) -> Extra:
    """LLaVA's: a matrix to the text's width and one more, of one or more of the tower's layers."""
    outer, wide = vision.outer or vision, text.size("hidden_size")
    chosen = outer.raw.get("vision_feature_layer")
    seen = vision.size("hidden_size") * (len(chosen) if isinstance(chosen, list) else 1)
    bias, root = outer.flag("multimodal_projector_bias", default=True), "multi_modal_projector"
    return extra(
        linear(_PART, f"{root}.linear_1", wide, seen, bias=bias),
        linear(_PART, f"{root}.linear_2", wide, wide, bias=bias),
    )


def one_matrix(vision: Config, _: Config) -> Extra:
    """PaliGemma's; its width at the top of the file goes over the tower's own (PaliGemmaConfig)."""
    wide, hidden = (vision.outer or vision).size("projection_dim"), vision.size("hidden_size")
    if vision.has("projection_dim") and vision.size("projection_dim") != wide:
        raise UncountedError(f"projection_dim is {wide}, but the tower's own is another")
    return extra(linear(_PART, "multi_modal_projector.linear", wide, hidden, bias=True))


def shuffled(vision: Config, text: Config) -> Extra:
    """Idefics-3's: ``scale_factor`` squared patches side by side, one matrix."""
    outer = vision.outer or vision
    seen = vision.size("hidden_size") * outer.size("scale_factor") ** 2
    name = "connector.modality_projection.proj"
    return extra(linear(_PART, name, text.size("hidden_size"), seen))


def merged(vision: Config, text: Config) -> Extra:
    """PaddleOCR-VL's: a norm, and patches side by side through two matrices."""
    hidden, merge = vision.size("hidden_size"), vision.size("spatial_merge_size") ** 2
    seen, root = hidden * merge, "projector"
    return extra(
        norm(f"{root}.pre_norm", hidden, bias=True, part=_PART),
        linear(_PART, f"{root}.linear_1", seen, seen, bias=True),
        linear(_PART, f"{root}.linear_2", text.size("hidden_size"), seen, bias=True),
    )
