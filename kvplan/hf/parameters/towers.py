"""Vision towers and projectors, by the wrapper whose ``vision_config`` they are.

Sources: the classes of transformers 5.23.0; Kimi-K3's own layout by its published tensors. A key
that a tower's config leaves out is its class's default where one stands here, else the tower is
not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from kvplan.hf.config import Config
from kvplan.hf.parameters import blocks as b
from kvplan.hf.parameters.blocks import Tensors, UncountedError

PART = "vision"


@dataclass(frozen=True)
class Tower:
    """How the wrapper's tower is counted, and whether the reference totals include it."""

    count: Callable[[Config, Config], Tensors]
    outside: bool = False
    """Left out of the total: the language class alone is what its published size means."""


def _linear(name: str, out: int, into: int, *, bias: bool = True) -> Tensors:
    return b.linear(PART, name, out, into, bias=bias)


def _norm(name: str, width: int, *, bias: bool = True) -> Tensors:
    return b.norm(name, width, bias=bias, part=PART)


def _layers(tensors: Tensors, count: int, root: str) -> Tensors:
    return b.placed(tensors, range(count), root)


def _plain(
    hidden: int, width: int, *, names: tuple[str, str], bias: bool = True, root: str = "mlp"
) -> Tensors:
    return b.plain_mlp(hidden, width, bias=bias, part=PART, root=root, names=names)


def _apart(hidden: int, root: str, out: str, *, inner: int = 0, bias: bool = True) -> Tensors:
    """Four matrices of one attention."""
    inner = inner or hidden
    made = [_linear(f"{root}.{letter}_proj", inner, hidden, bias=bias) for letter in "qkv"]
    made.append(_linear(f"{root}.{out}", hidden, inner, bias=bias))
    return tuple(tensor for group in made for tensor in group)


def qwen3_vl(vision: Config, _: Config) -> Tensors:
    """Qwen3VLVisionModel: patches of two frames, and a merger for each deepstack layer."""
    vision = replace(vision, defaults=QWEN3_VL_DEFAULTS, defaults_source="Qwen3VLVisionConfig")
    hidden, width = b.size(vision, "hidden_size"), b.size(vision, "intermediate_size")
    patch, frames = b.size(vision, "patch_size"), b.size(vision, "temporal_patch_size")
    out, merged = b.size(vision, "out_hidden_size"), hidden * _square(vision, "spatial_merge_size")
    block = (
        *_norm("norm1", hidden),
        *_norm("norm2", hidden),
        *_linear("attn.qkv", 3 * hidden, hidden),
        *_linear("attn.proj", hidden, hidden),
        *_plain(hidden, width, names=("linear_fc1", "linear_fc2")),
    )
    root, channels = "model.visual", b.size(vision, "in_channels")
    made = (
        *b.vector(PART, f"{root}.patch_embed.proj", hidden, channels, frames, patch, patch),
        *b.vector(PART, f"{root}.patch_embed.proj.bias", hidden),
        *b.vector(PART, f"{root}.pos_embed", b.size(vision, "num_position_embeddings"), hidden),
        *_layers(block, b.size(vision, "depth"), f"{root}.blocks"),
        *_merger(f"{root}.merger", hidden, merged, out),
    )
    mergers = _merger("merger", merged, merged, out)
    return made + _layers(mergers, _deepstack(vision), f"{root}.deepstack_merger_list")


def _deepstack(vision: Config) -> int:
    """Layers that feed the language model early: Qwen3-VL's three, Qwen3.5's none."""
    given = vision.numbers("deepstack_visual_indexes")
    outer = vision.outer or vision
    default = 3 if outer.raw.get("model_type") in ("qwen3_vl", "qwen3_vl_moe") else 0
    return default if given is None else len(given)


QWEN3_VL_DEFAULTS = {"num_position_embeddings": 2304}
"""Of Qwen3VLVisionConfig and Qwen3VLMoeVisionConfig; its deepstack layers are three."""


def _merger(root: str, normed: int, merged: int, out: int) -> Tensors:
    return (
        *_norm(f"{root}.norm", normed),
        *_linear(f"{root}.linear_fc1", merged, merged),
        *_linear(f"{root}.linear_fc2", out, merged),
    )


def _square(config: Config, key: str) -> int:
    return b.size(config, key) ** 2


def siglip(vision: Config, text: Config) -> Tensors:
    """Gemma-3: SiglipVisionModel (3 channels by default) without its pooling head."""
    if vision.flag("vision_use_head"):
        raise UncountedError("vision_use_head is on")
    hidden, width = b.size(vision, "hidden_size"), b.size(vision, "intermediate_size")
    patch, side = b.size(vision, "patch_size"), b.size(vision, "image_size")
    block = (
        *_norm("layer_norm1", hidden),
        *_norm("layer_norm2", hidden),
        *_apart(hidden, "self_attn", "out_proj"),
        *_plain(hidden, width, names=("fc1", "fc2")),
    )
    root, layers = "vision_tower.vision_model", b.size(vision, "num_hidden_layers")
    channels = vision.maybe("num_channels") or 3
    return (
        *b.vector(PART, f"{root}.embeddings.patch_embedding", hidden, channels, patch, patch),
        *b.vector(PART, f"{root}.embeddings.patch_embedding.bias", hidden),
        *b.vector(PART, f"{root}.embeddings.position_embedding", (side // patch) ** 2, hidden),
        *_layers(block, layers, f"{root}.encoder.layers"),
        *_norm(f"{root}.post_layernorm", hidden),
        *b.vector(
            PART,
            "multi_modal_projector.mm_input_projection_weight",
            hidden,
            b.size(text, "hidden_size"),
        ),
        *_norm("multi_modal_projector.mm_soft_emb_norm", hidden, bias=False),
    )


def pixtral(vision: Config, text: Config) -> Tensors:
    """Mistral-3: PixtralVisionModel and a projector that merges patches."""
    outer = vision.outer or vision
    hidden, width = b.size(vision, "hidden_size"), b.size(vision, "intermediate_size")
    patch, merge = b.size(vision, "patch_size"), _square(outer, "spatial_merge_size")
    block = (
        *_norm("attention_norm", hidden, bias=False),
        *_norm("ffn_norm", hidden, bias=False),
        *_apart(hidden, "attention", "o_proj", bias=False),
        *b.gated_mlp(hidden, width, part=PART, root="feed_forward"),
    )
    projector, wide = "multi_modal_projector", b.size(text, "hidden_size")
    bias = outer.flag("multimodal_projector_bias")
    channels, layers = b.size(vision, "num_channels"), b.size(vision, "num_hidden_layers")
    return (
        *b.vector(PART, "vision_tower.patch_conv", hidden, channels, patch, patch),
        *_norm("vision_tower.ln_pre", hidden, bias=False),
        *_layers(block, layers, "vision_tower.transformer.layers"),
        *_norm(f"{projector}.norm", hidden, bias=False),
        *_linear(f"{projector}.patch_merger.merging_layer", hidden, merge * hidden, bias=False),
        *_linear(f"{projector}.linear_1", wide, hidden, bias=bias),
        *_linear(f"{projector}.linear_2", wide, wide, bias=bias),
    )


def kimi_k25(vision: Config, _: Config) -> Tensors:
    """MoonViT and a projector of two matrices; positions are a square of 64 by default."""
    if vision.word("mm_projector_type") not in (None, "patchmerger"):
        raise UncountedError("mm_projector_type is not patchmerger")
    hidden, width = b.size(vision, "vt_hidden_size"), b.size(vision, "vt_intermediate_size")
    patch, out = b.size(vision, "patch_size"), b.size(vision, "text_hidden_size")
    block = (
        *_norm("norm0", hidden),
        *_norm("norm1", hidden),
        *_linear("wqkv", 3 * hidden, hidden),
        *_linear("wo", hidden, hidden),
        *_plain(hidden, width, names=("fc0", "fc1")),
    )
    return (
        *_patches(vision, hidden, patch, bias=True),
        *_layers(block, b.size(vision, "vt_num_hidden_layers"), "vision_tower.encoder.blocks"),
        *_norm("vision_tower.encoder.final_layernorm", hidden),
        *_norm("mm_projector.pre_norm", hidden),
        *_linear("mm_projector.proj.0", _merged(vision, hidden), _merged(vision, hidden)),
        *_linear("mm_projector.proj.2", out, _merged(vision, hidden)),
    )


def _merged(vision: Config, hidden: int) -> int:
    kernel = vision.numbers("merge_kernel_size")
    if not kernel:
        b.uncounted(vision, "merge_kernel_size")
    rows, columns = (kernel * 2)[:2]
    return hidden * int(vision.within("merge_kernel_size", rows * columns, 1, 10_000))


def _patches(vision: Config, hidden: int, patch: int, *, bias: bool) -> Tensors:
    height = vision.maybe("init_pos_emb_height") or 64
    width = vision.maybe("init_pos_emb_width") or 64
    root = "vision_tower.patch_embed"
    extra = b.vector(PART, f"{root}.proj.bias", hidden) if bias else ()
    return (
        *b.vector(PART, f"{root}.proj", hidden, 3, patch, patch),
        *extra,
        *b.vector(PART, f"{root}.pos_emb", height, width, hidden),
    )


def kimi_k3(vision: Config, _: Config) -> Tensors:
    """Kimi-K3: MoonViT with RMS norms and no biases (1,560,860,324,864 B are met exactly so)."""
    for key in ("attn_bias", "linear_bias", "patch_embed_proj_bias"):
        if vision.flag(key):
            raise UncountedError(f"vision_config.{key} is on")
    if vision.word("mm_projector_type") != "patchmergerv2" or vision.word("norm_type") != "rmsnorm":
        raise UncountedError("vision_config is not Kimi-K3's own")
    hidden, inner = b.size(vision, "vt_hidden_size"), b.size(vision, "qkv_hidden_size")
    block = (
        *_norm("norm0", hidden, bias=False),
        *_norm("norm1", hidden, bias=False),
        *_linear("wqkv", 3 * inner, hidden, bias=False),
        *_linear("wo", hidden, inner, bias=False),
        *_plain(hidden, b.size(vision, "vt_intermediate_size"), names=("fc0", "fc1"), bias=False),
    )
    wide, out = _merged(vision, hidden), b.size(vision, "text_hidden_size")
    return (
        *_patches(vision, hidden, b.size(vision, "patch_size"), bias=False),
        *_layers(block, b.size(vision, "vt_num_hidden_layers"), "vision_tower.encoder.blocks"),
        *_norm("vision_tower.encoder.final_layernorm", hidden, bias=False),
        *_linear("mm_projector.proj.0", wide, wide, bias=False),
        *_linear("mm_projector.proj.2", out, wide, bias=False),
        *_norm("mm_projector.post_norm", out, bias=False),
    )


def gemma4(vision: Config, text: Config) -> Tensors:
    """Gemma4VisionModel: ``standardize`` keeps two buffers, ``use_clipped_linears`` more."""
    if vision.flag("use_clipped_linears"):
        raise UncountedError("use_clipped_linears is on, whose bounds are stored as well")
    hidden, width = b.size(vision, "hidden_size"), b.size(vision, "intermediate_size")
    head, patch = b.size(vision, "head_dim"), b.size(vision, "patch_size")
    bias = vision.flag("attention_bias")
    shape = b.Attention(
        hidden=hidden,
        heads=b.size(vision, "num_attention_heads"),
        kv=b.size(vision, "num_key_value_heads"),
        width=head,
        bias=bias,
        out_bias=bias,
        norm="head",
    )
    names = ("input", "post_attention", "pre_feedforward", "post_feedforward")
    block = (
        *b.in_part(b.attention(shape), PART),
        *b.gated_mlp(hidden, width, part=PART),
        *(t for name in names for t in _norm(f"{name}_layernorm", hidden, bias=False)),
    )
    root = "model.vision_tower"
    positions, layers = (
        b.size(vision, "position_embedding_size"),
        b.size(vision, "num_hidden_layers"),
    )
    kept = _standardized(root, hidden) if vision.flag("standardize") else ()
    table = f"{root}.patch_embedder.position_embedding_table"
    projection = "model.embed_vision.embedding_projection"
    return (
        *b.vector(PART, table, 2, positions, hidden),
        *_linear(f"{root}.patch_embedder.input_proj", hidden, 3 * patch**2, bias=False),
        *_layers(block, layers, f"{root}.encoder.layers"),
        *kept,
        *_linear(projection, b.size(text, "hidden_size"), hidden, bias=False),
    )


def _standardized(root: str, hidden: int) -> Tensors:
    return (
        *b.buffer(PART, f"{root}.std_bias", hidden, dtype=None),
        *b.buffer(PART, f"{root}.std_scale", hidden, dtype=None),
    )


def muse_glimmer(vision: Config, text: Config) -> Tensors:
    """MuseGlimmerVisionModel, a two-matrix adapter and a projection."""
    outer = vision.outer or vision
    hidden, width = b.size(vision, "hidden_size"), b.size(vision, "intermediate_size")
    patch, frames = b.size(vision, "patch_size"), b.size(vision, "patch_temporal")
    rows = b.size(vision, "pos_emb_height") * b.size(vision, "pos_emb_width")
    block = (
        *_norm("norm1", hidden),
        *_norm("norm2", hidden),
        *_apart(hidden, "attn", "proj"),
        *_plain(hidden, width, names=("fc1", "fc2")),
    )
    root, layers = "model.vision_tower", b.size(vision, "num_hidden_layers")
    middle = b.size(outer, "projector_hidden_size")
    seen = hidden * _square(vision, "merge_size")
    embedder = f"{root}.patch_embedder"
    return (
        *_linear(f"{embedder}.patch_embedding", hidden, 3 * frames * patch**2, bias=False),
        *b.vector(PART, f"{embedder}.position_embedding_table", rows, hidden),
        *_norm(f"{root}.ln_pre", hidden),
        *_layers(block, layers, f"{root}.layers"),
        *_norm(f"{root}.ln_post", hidden),
        *_linear("model.vision_adapter.fc1", middle, seen, bias=False),
        *_linear("model.vision_adapter.fc2", middle, middle, bias=False),
        *_linear("model.vision_projection", b.size(text, "hidden_size"), middle, bias=False),
    )


def mllama(vision: Config, text: Config) -> Tensors:
    """MllamaVisionModel: tiles, a local and a gated global transformer."""
    hidden, width = b.size(vision, "hidden_size"), b.size(vision, "intermediate_size")
    patch, tiles = b.size(vision, "patch_size"), b.size(vision, "max_num_tiles")
    ratios = vision.items("supported_aspect_ratios", list, "pairs of numbers")
    if ratios is None:
        b.uncounted(vision, "supported_aspect_ratios")
    rows, shapes = (b.size(vision, "image_size") // patch) ** 2 + 1, len(ratios) + 1
    block = (
        *_apart(hidden, "self_attn", "o_proj", bias=False),
        *_plain(hidden, width, names=("fc1", "fc2")),
        *_norm("input_layernorm", hidden),
        *_norm("post_attention_layernorm", hidden),
    )
    gates = (*b.vector(PART, "gate_attn", 1), *b.vector(PART, "gate_ffn", 1))
    root, out = "vision_model", b.size(text, "hidden_size")
    channels, positions = b.size(vision, "num_channels"), f"{root}.gated_positional_embedding"
    made = (
        *b.vector(PART, f"{root}.class_embedding", hidden),
        *b.vector(PART, f"{root}.patch_embedding", hidden, channels, patch, patch),
        *b.vector(PART, f"{positions}.gate", 1),
        *b.vector(PART, f"{positions}.embedding", rows, hidden),
        *b.vector(PART, f"{positions}.tile_embedding", shapes, tiles * rows * hidden),
    )
    for name in ("pre_tile_positional_embedding", "post_tile_positional_embedding"):
        made += b.vector(PART, f"{root}.{name}.gate", 1)
        made += b.vector(PART, f"{root}.{name}.embedding", shapes, tiles * hidden)
    return (
        *made,
        *_norm(f"{root}.layernorm_pre", hidden),
        *_norm(f"{root}.layernorm_post", hidden),
        *_layers(block, b.size(vision, "num_hidden_layers"), f"{root}.transformer.layers"),
        *_layers(
            (*block, *gates),
            b.size(vision, "num_global_layers"),
            f"{root}.global_transformer.layers",
        ),
        *_linear("multi_modal_projector", out, b.size(vision, "vision_output_dim")),
    )


def llama4(vision: Config, text: Config) -> Tensors:
    """Llama4VisionModel: pixel shuffle halves the sides, an adapter of two matrices."""
    if vision.flag("multi_modal_projector_bias"):
        raise UncountedError("multi_modal_projector_bias is on")
    hidden, width = b.size(vision, "hidden_size"), b.size(vision, "intermediate_size")
    patch, side = b.size(vision, "patch_size"), b.size(vision, "image_size")
    block = (
        *_apart(hidden, "self_attn", "o_proj"),
        *_plain(hidden, width, names=("fc1", "fc2")),
        *_norm("input_layernorm", hidden),
        *_norm("post_attention_layernorm", hidden),
    )
    root, layers = "vision_model", b.size(vision, "num_hidden_layers")
    middle, out = b.size(vision, "projector_input_dim"), b.size(vision, "projector_output_dim")
    channels, adapter = b.size(vision, "num_channels"), f"{root}.vision_adapter.mlp"
    positions = (side // patch) ** 2 + 1
    return (
        *b.vector(PART, f"{root}.class_embedding", hidden),
        *b.vector(PART, f"{root}.positional_embedding_vlm", positions, hidden),
        *_linear(f"{root}.patch_embedding.linear", hidden, channels * patch**2, bias=False),
        *_norm(f"{root}.layernorm_pre", hidden),
        *_norm(f"{root}.layernorm_post", hidden),
        *_layers(block, layers, f"{root}.model.layers"),
        *_linear(f"{adapter}.fc1", middle, width, bias=False),
        *_linear(f"{adapter}.fc2", out, middle, bias=False),
        *_linear(
            "multi_modal_projector.linear_1",
            b.size(text, "hidden_size"),
            b.size(vision, "vision_output_dim"),
            bias=False,
        ),
    )


TOWERS: dict[str, Tower] = {
    **dict.fromkeys(("qwen3_vl", "qwen3_vl_moe", "qwen3_5"), Tower(qwen3_vl)),
    "qwen3_5_moe": Tower(qwen3_vl, outside=True),
    "gemma3": Tower(siglip),
    "mistral3": Tower(pixtral),
    "kimi_k25": Tower(kimi_k25),
    "kimi_k3": Tower(kimi_k3),
    "gemma4": Tower(gemma4),
    "muse_glimmer": Tower(muse_glimmer),
    "mllama": Tower(mllama, outside=True),
    "llama4": Tower(llama4, outside=True),
}

OUTSIDE = {name for name, tower in TOWERS.items() if tower.outside} | {"mistral_large3"}
"""Wrappers whose total is that of the language model alone, as their reference totals are."""

BESIDE: dict[str, tuple[tuple[str, str], ...]] = {
    # What stands beside the text model and has a config of its own: (section, what it is).
    "gemma3n": (("vision_config", "vision tower"), ("audio_config", "audio tower")),
    "gemma4": (("audio_config", "audio tower"),),
    "qwen2_audio": (("audio_config", "audio tower"),),
    "voxtral": (("audio_config", "audio tower"),),
    "granite_speech": (("encoder_config", "audio tower"),),
}


def marked(tensors: Tensors, *, outside: bool) -> Tensors:
    """The tower's tensors, as part of the total or beside it."""
    return tuple(replace(tensor, outside=outside) for tensor in tensors)
