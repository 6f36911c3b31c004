"""Mistral Large 4: sparse latent attention, layers without a rotary key, and shared latents.

Source: transformers 5.24.0 modeling_mistral_large4.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from kvplan.hf.blocks.base import UNSURE, Block, Layer, Model, Tensors, extra, norm, vector
from kvplan.hf.blocks.latent import MLA, Indexer
from kvplan.hf.config import Config, Figure
from kvplan.hf.families.base import Family, Wrapper
from kvplan.hf.families.decoder import PLAIN, ends, stack
from kvplan.hf.families.experts import DEEPSEEK, dense_first
from kvplan.hf.families.latent import indexer_types, mla
from kvplan.hf.families.mistral_vision import pixtral
from kvplan.hf.layers import layer_count, only, zero_or_one

_EXPERTS = replace(DEEPSEEK, count=("n_routed_experts", "num_experts"), router_dtype=UNSURE)


@dataclass(frozen=True, kw_only=True)
class _Indexer(Indexer):
    """Its queries come of the hidden state, normed and scaled (MistralLarge4TextIndexer)."""

    def weights(self, hidden: int) -> Tensors:
        yield from super().weights(hidden)
        yield from norm(f"{self.root}.q_input_norm", hidden, bias=True, part="indexer")
        for name in ("scale", "bias"):
            yield from vector("indexer", f"{self.root}.softmax_scaling.{name}", self.heads())


def _mistral_large4(config: Config) -> Model:
    """Who owns latents, whose are rotated, and who runs an indexer, each a list of layers."""
    count = layer_count(config)
    plain = replace(mla(config), q_rank=lambda: None)
    rotated, sources = _rotated(config, count), _sources(config, count)
    types = indexer_types(config, count)
    only(config, "indexer_types", types, "full", "shared")
    kinds = config.per_layer("layer_types", config.words("layer_types"), count)
    only(config, "layer_types", kinds or [], "indexed_attention")
    config.ignore("index_n_heads", "index_topk")
    keys = _Indexer(
        width=config.count("index_head_dim"),
        heads=partial(config.size, "index_n_heads"),
        q_rank=partial(config.size, "hidden_size"),
    )
    known: dict[tuple[bool, bool, str], Layer] = {}
    layers = []
    for index, kind in enumerate(types):
        case = (rotated[index], sources[index] != index, kind)
        if case not in known:
            known[case] = _layer(plain, keys, *case)
        layers.append(known[case])
    shaped = stack(config, PLAIN, layers, _EXPERTS, dense_first, beside=_scaling)
    return replace(shaped, ends=partial(_ends, config, plain.rope))


def _layer(plain: MLA, keys: Indexer, rotated: bool, reads: bool, kind: str) -> Layer:
    rope = plain.rope if rotated else Figure(0, "no_rope_layers")
    nope = plain.nope if rotated else Figure(plain.nope + plain.rope, "qk_nope + qk_rope_head_dim")
    heads = replace(plain, rope=rope, nope=nope, reads=reads)
    return (heads, keys) if kind == "full" else (heads,)


def _rotated(config: Config, layers: int) -> Sequence[bool]:
    """``no_rope_layers`` has 1 where positions are rotated; else every fourth is without."""
    flags = config.per_layer("no_rope_layers", config.numbers("no_rope_layers"), layers)
    if flags is not None:
        return [zero_or_one(config, "no_rope_layers", flag) for flag in flags]
    period = config.maybe("no_rope_layer_interval") or 4
    return [bool((index + 1) % period) for index in range(layers)]


def _sources(config: Config, layers: int) -> Sequence[int]:
    """The layer whose latents each reads; every layer its own where the file has no list."""
    sources = config.per_layer("kv_source_layers", config.numbers("kv_source_layers"), layers)
    if sources is None:
        return range(layers)
    for index, source in enumerate(sources):
        if not 0 <= source <= index or sources[source] != source:
            config.refuse(f"kv_source_layers: layer {index} reads {source}, which owns no latents")
    return sources


def _scaling(_: Config, block: Block) -> Layer:
    if not isinstance(block, MLA):
        return ()
    root = "self_attn.softmax_scaling"
    parts = (vector("attention", f"{root}.{name}", block.heads) for name in ("scale", "bias"))
    return (extra(*parts),)


def _ends(config: Config, rope: int) -> Layer:
    """One figure for each rotary frequency is learned."""
    alpha = vector("other", "model.rotary_emb.alpha", rope // 2, dtype="fp32")
    return (*ends(config, PLAIN), extra(alpha))


FAMILIES: dict[str, Family] = {
    "mistral_large4_text": Family(
        read=_mistral_large4,
        classes=("mistrallarge4",),
    ),
}

WRAPPERS: dict[str, Wrapper] = {
    "mistral_large4": Wrapper(text="mistral_large4_text", tower=pixtral),
}
