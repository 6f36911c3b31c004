"""MiniMax-M2, with experts alone, and M3, with sparse attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from kvplan.hf.blocks.base import UNSURE, Block, Layer, Model
from kvplan.hf.blocks.latent import BlockIndexer
from kvplan.hf.config import Config, UncountedError
from kvplan.hf.families.base import Family, Wrapper
from kvplan.hf.families.decoder import Style, attention, stack
from kvplan.hf.families.experts import MIXTRAL, Mixture, by_routing_bias, dense_first
from kvplan.hf.geometry import OWN_HEAD_DIM
from kvplan.hf.layers import FULL, drafts, layer_count, layer_types, zero_or_one

_M2 = Style(dialect=OWN_HEAD_DIM, qk_norm="all", qk_norm_key=("use_qk_norm", True))
_M3 = replace(_M2, qk_norm="head", width=("dense_intermediate_size",))
# The router is stored as fp32: 230,121,630,720 B of MiniMaxAI/MiniMax-M2 are met only so.
_M2_EXPERTS = replace(MIXTRAL, correction=by_routing_bias, router_dtype="fp32")
# Shared experts have a width of their own; no key tells the router's dtype.
_M3_EXPERTS = Mixture(
    count=("num_local_experts",),
    width=("intermediate_size", "moe_intermediate_size"),
    shared=("n_shared_experts",),
    shared_width=("shared_intermediate_size",),
    no_shared="zero",
    router_dtype=UNSURE,
    correction=by_routing_bias,
)


def _minimax_m2(config: Config) -> Model:
    """Full attention throughout; ``qk_norm_type`` per_layer norms all heads at once."""
    count = layer_count(config)
    flags = config.per_layer("attn_type_list", config.numbers("attn_type_list"), count)
    if flags is not None and set(flags) != {1}:
        config.refuse("attn_type_list names lightning layers, which MiniMax-M2 does not have")
    config.require("qk_norm_type", "per_layer")
    config.ignore("mlp_intermediate_size")
    layer = (attention(config, _M2),)
    modules = drafts(config, "num_mtp_modules") if config.flag("use_mtp") else 0
    draft = modules * (config.maybe("mtp_transformer_layers") or 1)

    layers = [layer] * count
    return stack(config, _M2, layers, _M2_EXPERTS, beside=_refuse_shared, draft=[layer] * draft)


def _refuse_shared(config: Config, _: Block) -> Layer:
    if config.maybe("shared_intermediate_size", least=0):
        raise UncountedError("shared_intermediate_size is set, which no published M2 has")
    return ()


def _minimax_m3(config: Config) -> Model:
    """Keys and values on every layer, and an indexer on the sparse ones (MiniMaxM3VLTextConfig)."""
    config.require("attention_output_gate", False)
    config.require("qk_norm_type", "per_head")
    config.ignore(
        "index_n_heads",
        "index_head_dim",
        "index_block_size",
        "index_topk_blocks",
        "index_local_blocks",
    )
    heads, count = attention(config, _M3), layer_count(config)
    sparse = _sparse_layers(config, count)
    indexer = _indexer(config) if any(sparse) else None
    layers = [(heads, indexer) if indexer and flag else (heads,) for flag in sparse]
    return stack(config, _M3, layers, _M3_EXPERTS, dense_first, beside=_refuse_many_shared)


def _refuse_many_shared(config: Config, _: Block) -> Layer:
    """The class has one of ``shared_intermediate_size``, whatever ``n_shared_experts`` says."""
    if config.has("n_shared_experts") and config.size("n_shared_experts", least=0) != 1:
        raise UncountedError("n_shared_experts is not 1, which transformers does not look at")
    return ()


def _sparse_layers(config: Config, layers: int) -> Sequence[bool]:
    section = config.section("sparse_attention_config")
    if section is not None and section.flag("use_sparse_attention", default=True):
        freq = section.numbers("sparse_attention_freq")
        flags = section.per_layer("sparse_attention_freq", freq, layers)
        if flags is None:
            section.missing("sparse_attention_freq")
        return [zero_or_one(section, "sparse_attention_freq", flag) for flag in flags]
    if section is not None:
        return [False] * layers
    types = layer_types(config, layers, None)
    known = {FULL: False, "minimax_m3_sparse": True}
    if set(types) - set(known):
        config.refuse("layer_types names other layers than full_attention and minimax_m3_sparse")
    return [known[kind] for kind in types]


def _indexer(config: Config) -> BlockIndexer:
    source = config.section("sparse_attention_config") or config
    return BlockIndexer(
        width=source.count("sparse_index_dim", "index_head_dim"),
        heads=partial(source.size, "sparse_num_index_heads", "index_n_heads"),
    )


FAMILIES: dict[str, Family] = {
    "minimax_m2": Family(read=_minimax_m2),
    "minimax_m3": Family(read=_minimax_m3, classes=("minimaxm3", "minimaxm3sparse")),
    "minimax_m3_vl_text": Family(read=_minimax_m3, classes=("minimaxm3sparse",)),
}

WRAPPERS: dict[str, Wrapper] = {
    "minimax_m3_vl": Wrapper(classes=("minimaxm3vl", "minimaxm3sparse")),
}
