"""The vision tower of Qwen3-VL and Qwen3.5."""

from __future__ import annotations

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import Extra, Layer, Model, Norms, Stack, linear, norm, vector
from kvplan.hf.blocks.mlp import MLP
from kvplan.hf.config import Config, UncountedError
from kvplan.hf.families.vision import vision_model

_PART = "vision"


def qwen3_vl(vision: Config, _: Config) -> Model:
    """Qwen3VLVisionModel: patches of two frames, and a merger for each deepstack layer."""
    hidden, width = vision.size("hidden_size"), vision.size("intermediate_size")
    layer: Layer = (
        Norms(names=("norm1", "norm2"), bias=True),
        _attention(hidden),
        MLP(width=width, gated=False, bias=True, names=("linear_fc1", "linear_fc2")),
    )
    root = "model.visual"
    merged, out = hidden * vision.size("spatial_merge_size") ** 2, vision.size("out_hidden_size")
    merger = _merger("merger", merged, merged, out)
    return vision_model(
        hidden,
        f"{root}.blocks",
        [layer] * vision.size("depth"),
        (_front(vision, root), _merger(f"{root}.merger", hidden, merged, out)),
        Stack(root=f"{root}.deepstack_merger_list", layers=((merger,),) * _deepstack(vision)),
    )


def qwen2_vl(vision: Config, _: Config) -> Model:
    """Qwen2VisionTransformer: ``embed_dim`` is its width, ``hidden_size`` the text's."""
    hidden, names = vision.size("embed_dim"), ("fc1", "fc2")
    width = hidden * vision.size("mlp_ratio")
    block = MLP(width=width, gated=False, bias=True, names=names)
    layer: Layer = (Norms(names=("norm1", "norm2"), bias=True), _attention(hidden), block)
    return _plain(vision, hidden, vision.size("hidden_size"), layer, bias=True)


def qwen2_5_vl(vision: Config, _: Config) -> Model:
    """Qwen2_5_VisionTransformer: RMSNorms and a gated MLP; which layers see all changes nothing."""
    hidden = vision.size("hidden_size")
    block = MLP(width=vision.size("intermediate_size"), bias=True)
    layer: Layer = (Norms(names=("norm1", "norm2")), _attention(hidden), block)
    return _plain(vision, hidden, vision.size("out_hidden_size"), layer, bias=False)


def _attention(hidden: int) -> Attention:
    return Attention(
        heads=1,
        kv=1,
        width=hidden,
        bias=True,
        out_bias=True,
        fused="qkv",
        out="proj",
        root="attn",
    )


def _plain(vision: Config, hidden: int, out: int, layer: Layer, *, bias: bool) -> Model:
    """Patches without bias or positions, the layers, and a merger."""
    root, patch = "visual", vision.size("patch_size")
    channels, frames = vision.size("in_channels"), vision.size("temporal_patch_size")
    # Published files say in_chans, which no class reads (transformers 5.24.0, vLLM 0.33.0).
    if vision.has("in_chans") and vision.size("in_chans") != channels:
        raise UncountedError(f"in_chans is not {channels}, the channels that the class takes")
    merged = hidden * vision.size("spatial_merge_size") ** 2
    ends = Extra(
        tensors=(
            *vector(_PART, f"{root}.patch_embed.proj", hidden, channels, frames, patch, patch),
            *norm(f"{root}.merger.ln_q", hidden, bias=bias, part=_PART),
            *linear(_PART, f"{root}.merger.mlp.0", merged, merged, bias=True),
            *linear(_PART, f"{root}.merger.mlp.2", out, merged, bias=True),
        )
    )
    return vision_model(hidden, f"{root}.blocks", [layer] * vision.size("depth"), (ends,))


def _front(vision: Config, root: str) -> Extra:
    """Patches and their positions."""
    hidden, patch = vision.size("hidden_size"), vision.size("patch_size")
    channels, frames = vision.size("in_channels"), vision.size("temporal_patch_size")
    positions = vision.size("num_position_embeddings")
    return Extra(
        tensors=(
            *vector(_PART, f"{root}.patch_embed.proj", hidden, channels, frames, patch, patch),
            *vector(_PART, f"{root}.patch_embed.proj.bias", hidden),
            *vector(_PART, f"{root}.pos_embed", positions, hidden),
        )
    )


def _deepstack(vision: Config) -> int:
    """Layers that feed the language model early: Qwen3-VL's three, Qwen3.5's none."""
    given = vision.numbers("deepstack_visual_indexes")
    outer = vision.outer or vision
    default = 3 if outer.raw.get("model_type") in ("qwen3_vl", "qwen3_vl_moe") else 0
    return default if given is None else len(given)


def _merger(root: str, normed: int, merged: int, out: int) -> Extra:
    return Extra(
        tensors=(
            *norm(f"{root}.norm", normed, bias=True),
            *linear(_PART, f"{root}.linear_fc1", merged, merged, bias=True),
            *linear(_PART, f"{root}.linear_fc2", out, merged, bias=True),
        )
    )
