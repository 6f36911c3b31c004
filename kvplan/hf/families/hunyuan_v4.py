"""Tencent's HY-V4: sparse latent attention, an output gate, and residual streams.

Source: transformers 5.24.0 modeling_hy_v4.py, modeling_hy_v4_vl.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

from kvplan.hf.blocks.attention import Gate
from kvplan.hf.blocks.base import UNSURE, Block, Layer, Model, extra, vector
from kvplan.hf.blocks.compressed import HyperConnections, HyperHead
from kvplan.hf.blocks.latent import MLA
from kvplan.hf.config import Config
from kvplan.hf.families.base import Family, Wrapper, each
from kvplan.hf.families.decoder import PLAIN, ends, stack
from kvplan.hf.families.experts import BALANCED, dense_first
from kvplan.hf.families.latent import indexer, mla
from kvplan.hf.layers import by_type, counted, layer_count, only

_EXPERTS = replace(BALANCED, router_dtype=UNSURE)


def _hy_v4(config: Config) -> Model:
    """``indexer_types``, else the first layer and every fourth after it has an indexer."""
    count, latent = layer_count(config), mla(config)
    keys = replace(indexer(config), dtype=UNSURE)
    types = config.per_layer("layer_types", config.words("layer_types"), count)
    only(config, "layer_types", types or [], "indexed_attention")
    named = config.per_layer("indexer_types", config.words("indexer_types"), count)
    ruled = ["full" if i == 0 or (i - 1) % 4 == 0 else "shared" for i in range(count)]
    shared = ruled if named is None else named
    if named is None:
        config.take("indexer_types", counted(ruled))
    only(config, "indexer_types", shared, "full", "shared")
    layers = by_type(config, shared, {"full": lambda: (latent, keys), "shared": lambda: (latent,)})
    plain = stack(config, PLAIN, layers, _EXPERTS, _after_first, beside=_beside)
    return replace(plain, ends=partial(_ends, config))


def _after_first(config: Config, layers: int) -> Iterable[int]:
    if config.has("mlp_layer_types") or config.has("first_k_dense_replace"):
        return dense_first(config, layers)
    return range(1, layers)


def _beside(config: Config, block: Block) -> Layer:
    """A gate as wide as the values, a sink a head, and streams that are not mixed."""
    streams = HyperConnections(streams=config.size("hc_mult"), mixed=False)
    if not isinstance(block, MLA):
        return (streams,)
    gate = Gate(rows=block.heads * block.v_width)
    return (streams, gate, extra(vector("attention", "self_attn.sinks", block.heads, dtype="fp32")))


def _ends(config: Config) -> Layer:
    return (*ends(config, PLAIN), HyperHead(streams=config.size("hc_mult")))


FAMILIES: dict[str, Family] = {
    **each("hy_v4 hy_v4_vl_text", Family(read=_hy_v4, classes=("hyv4", "hyv4vl"))),
}

WRAPPERS: dict[str, Wrapper] = {"hy_v4_vl": Wrapper(text="hy_v4_vl_text")}
