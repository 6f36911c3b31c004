"""MoonViT, the vision tower of Kimi-K2.5 and K3."""

from __future__ import annotations

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import Extra, Layer, Model, Norms, Tensors, linear, vector
from kvplan.hf.blocks.mlp import MLP
from kvplan.hf.config import Config, UncountedError
from kvplan.hf.families.vision import vision_model

_PART, _ROOT = "vision", "vision_tower"


def kimi_k25(vision: Config, _: Config) -> Model:
    """MoonViT and a projector of two matrices."""
    if vision.word("mm_projector_type") not in (None, "patchmerger"):
        raise UncountedError("mm_projector_type is not patchmerger")
    hidden, wide = vision.size("vt_hidden_size"), _merged(vision)
    first = Norms(names=("mm_projector.pre_norm",), bias=True)
    return _moonvit(vision, hidden, bias=True, ends=(first, _projector(vision, wide, bias=True)))


def kimi_k3(vision: Config, _: Config) -> Model:
    """Kimi-K3: MoonViT with RMS norms and no biases (1,560,860,324,864 B are met exactly so)."""
    for key in ("attn_bias", "linear_bias", "patch_embed_proj_bias"):
        if vision.flag(key):
            raise UncountedError(f"vision_config.{key} is on")
    if vision.word("mm_projector_type") != "patchmergerv2" or vision.word("norm_type") != "rmsnorm":
        raise UncountedError("vision_config is not Kimi-K3's own")
    inner, wide = vision.size("qkv_hidden_size"), _merged(vision)
    last = Norms(names=("mm_projector.post_norm",), width=vision.size("text_hidden_size"))
    return _moonvit(vision, inner, bias=False, ends=(_projector(vision, wide, bias=False), last))


def _moonvit(vision: Config, inner: int, *, bias: bool, ends: Layer) -> Model:
    """Layers with one matrix for queries, keys and values, ``inner`` wide each."""
    hidden, width = vision.size("vt_hidden_size"), vision.size("vt_intermediate_size")
    heads = Attention(
        heads=1,
        kv=1,
        width=inner,
        bias=bias,
        out_bias=bias,
        fused="wqkv",
        out="wo",
        root="",
    )
    layer: Layer = (
        Norms(names=("norm0", "norm1"), bias=bias),
        heads,
        MLP(width=width, gated=False, bias=bias, names=("fc0", "fc1")),
    )
    front = Extra(tensors=tuple(_patches(vision, hidden, bias=bias)))
    final = Norms(names=(f"{_ROOT}.encoder.final_layernorm",), bias=bias)
    layers = [layer] * vision.size("vt_num_hidden_layers")
    return vision_model(hidden, f"{_ROOT}.encoder.blocks", layers, (front, final, *ends))


def _projector(vision: Config, wide: int, *, bias: bool) -> Extra:
    out, root = vision.size("text_hidden_size"), "mm_projector.proj"
    first = linear(_PART, f"{root}.0", wide, wide, bias=bias)
    second = linear(_PART, f"{root}.2", out, wide, bias=bias)
    return Extra(tensors=(*first, *second))


def _merged(vision: Config) -> int:
    """Width of the patches that the projector sees at once."""
    kernel = vision.numbers("merge_kernel_size")
    if not kernel:
        vision.uncounted("merge_kernel_size")
    rows, columns = (kernel * 2)[:2]
    patches = vision.within("merge_kernel_size", rows * columns, 1, 10_000)
    return vision.size("vt_hidden_size") * int(patches)


def _patches(vision: Config, hidden: int, *, bias: bool) -> Tensors:
    """Positions are a square of 64 by default."""
    height = vision.maybe("init_pos_emb_height") or 64
    width = vision.maybe("init_pos_emb_width") or 64
    root, patch = f"{_ROOT}.patch_embed", vision.size("patch_size")
    yield from vector(_PART, f"{root}.proj", hidden, 3, patch, patch)
    if bias:
        yield from vector(_PART, f"{root}.proj.bias", hidden)
    yield from vector(_PART, f"{root}.pos_emb", height, width, hidden)
