"""Zhipu's GLM-5.3-Flash: delta attention, and latent attention over pooled index keys.

Source: transformers 5.24.0 modeling_glm5_next.py; caches as vLLM 0.33.0 models/glm5next keeps them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import (
    UNSURE,
    Block,
    Extra,
    Layer,
    Model,
    Norms,
    norm,
)
from kvplan.hf.blocks.compressed import HyperConnections
from kvplan.hf.blocks.latent import Indexer
from kvplan.hf.blocks.mlp import MLP
from kvplan.hf.config import Config
from kvplan.hf.families.base import Family, Wrapper
from kvplan.hf.families.decoder import PLAIN, stack
from kvplan.hf.families.experts import BALANCED, dense_first
from kvplan.hf.families.glm_vision import filters, merger
from kvplan.hf.families.latent import indexer_types, mla
from kvplan.hf.families.states import kimi_delta
from kvplan.hf.families.vision import vision_model
from kvplan.hf.layers import (
    FULL,
    LINEAR,
    MTP,
    agree,
    by_type,
    drafts,
    layer_count,
    layer_types,
    one_full_in,
    only,
)

_EXPERTS = replace(BALANCED, router_dtype=UNSURE)
_SPARSE = "deepseek_sparse_attention"
_ROOT = "model.visual"


def _glm5_next(config: Config) -> Model:
    """``layer_types``, else the last of every four sparse (Glm5NextTextConfig)."""
    count = layer_count(config)
    config.require("index_kpool_compress", True)
    config.ignore("index_kpool_always_select_tail", "index_topk", "index_n_heads")
    latent = mla(config, least_rope=0)
    indexer = Indexer(
        width=config.count("index_head_dim"),
        heads=partial(config.size, "index_n_heads"),
        q_rank=partial(config.size, "q_lora_rank"),
        pool=config.count("index_kpool", least=2),
    )
    indexed = indexer_types(config, count)
    only(config, "indexer_types", indexed, "full", "shared")
    types = _types(config, count)
    blocks: dict[str, Callable[[], Layer]] = {
        LINEAR: lambda: (kimi_delta(config),),
        "full": lambda: (latent, indexer),
        "shared": lambda: (latent,),
    }
    named = [LINEAR if kind == LINEAR else own for kind, own in zip(types, indexed, strict=True)]
    # The draft layer brings an indexer of its own (vLLM 0.33.0 models/glm5next/common/mtp.py).
    draft = [(latent, indexer)] * drafts(config, MTP)
    layers = by_type(config, named, blocks)
    return stack(config, PLAIN, layers, _EXPERTS, _after_three, beside=_streams, draft=draft)


def _types(config: Config, layers: int) -> Sequence[str]:
    types = layer_types(config, layers, one_full_in(4, LINEAR))
    only(config, "layer_types", types, LINEAR, _SPARSE, "indexed_attention", FULL)
    section = config.section("linear_attn_config")
    linear = None if section is None else section.numbers("kda_layers")
    if section is not None and linear is not None:
        full = section.numbers("full_attn_layers") or []
        listed = [LINEAR if index in set(linear) else FULL for index in range(layers)]
        if sorted(full + linear) != list(range(layers)):
            section.refuse(f"full_attn_layers and kda_layers do not name each of {layers} layers")
        mixed = [LINEAR if kind == LINEAR else FULL for kind in types]
        agree(config, "linear_attn_config", mixed, listed.__getitem__)
    return types


def _after_three(config: Config, layers: int) -> Iterable[int]:
    """``mlp_layer_types``, else experts after three layers, as the class and no key has it."""
    if not config.has("mlp_layer_types") and config.maybe("first_k_dense_replace") in (None, 3):
        return range(min(3, layers), layers)
    return dense_first(config, layers)


def _streams(config: Config, _: Block) -> Layer:
    return (HyperConnections(streams=config.size("hc_mult"), dtype=UNSURE),)


def _vision(vision: Config, _: Config) -> Model:
    """Glm5NextVisionModel; ``attention_bias`` is of its MLP too."""
    hidden, heads = vision.size("hidden_size"), vision.size("num_heads")
    bias = vision.flag("attention_bias", default=True)
    attention = Attention(
        heads=heads,
        kv=heads,
        width=hidden // heads,
        bias=bias,
        out_bias=bias,
        qk_norm="head",
        fused="qkv",
        out="proj",
        root="attn",
    )
    layer: Layer = (
        Norms(names=("norm1", "norm2")),
        attention,
        MLP(width=vision.size("intermediate_size"), bias=bias),
    )
    layers = [layer] * vision.size("depth")
    return vision_model(hidden, f"{_ROOT}.blocks", layers, _ends(vision, hidden))


def _ends(vision: Config, hidden: int) -> Layer:
    """Filters and a norm before the layers, what joins patches after them."""
    out, width = vision.size("out_hidden_size"), vision.size("projection_intermediate_size")
    last = norm(f"{_ROOT}.post_layernorm", hidden, part="vision")
    before = Extra(tensors=(*filters(vision, hidden), *last))
    return (before, Extra(tensors=tuple(merger(vision, hidden, out, width))))


_TEXT = Family(read=_glm5_next, classes=("glm5next",))

FAMILIES: dict[str, Family] = {"glm5_next_text": _TEXT, "glm5_next": _TEXT}

WRAPPERS: dict[str, Wrapper] = {
    "glm5_next": Wrapper(optional=True, text="glm5_next_text", tower=_vision),
}
