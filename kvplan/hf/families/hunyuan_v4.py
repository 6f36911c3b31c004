"""Tencent's Hy4: sparse latent attention with sinks and a gate, and several residual streams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvplan.hf.blocks.attention import Gate
from kvplan.hf.blocks.base import Extra, Layer, Model, extra, vector
from kvplan.hf.blocks.latent import MLA
from kvplan.hf.config import Config
from kvplan.hf.families.base import Beside, Family, Wrapper
from kvplan.hf.families.experts import BALANCED
from kvplan.hf.families.latent import sparse_decoder


def _hy_v4(config: Config) -> Model:
    """``hc_mult`` streams are mixed before and after each branch (modeling_hy_v4.py)."""
    if not config.has("indexer_types"):
        config.refuse("indexer_types is missing, which says what layers have an indexer")
    plain = sparse_decoder(BALANCED)(config)

    def others() -> Sequence[Layer]:
        streams, hidden = config.size("hc_mult"), config.size("hidden_size")
        mixes = tuple(_mix(name, streams, hidden) for name in ("attn_hc", "ffn_hc"))
        return [
            (*rest, *mixes, *_beside(layer))
            for layer, rest in zip(plain.layers, plain.others(), strict=True)
        ]

    return replace(plain, others=others, ends=lambda: (*plain.ends(), _head(config)))


def _beside(layer: Layer) -> Layer:
    latent = next(block for block in layer if isinstance(block, MLA))
    rows = latent.heads * latent.v_width
    return (Gate(rows=rows), extra(vector("attention", "self_attn.sinks", latent.heads)))


def _mix(name: str, streams: int, hidden: int) -> Extra:
    return extra(
        vector("other", f"{name}.fn", 2 * streams, streams * hidden),
        vector("other", f"{name}.base", 2 * streams),
        vector("other", f"{name}.scale", 2),
    )


def _head(config: Config) -> Extra:
    streams, hidden = config.size("hc_mult"), config.size("hidden_size")
    return extra(
        vector("other", "model.hc_head.hc_fn", streams, streams * hidden),
        vector("other", "model.hc_head.hc_base", streams),
        vector("other", "model.hc_head.hc_scale", 1),
    )


FAMILIES: dict[str, Family] = {
    "hy_v4": Family(read=_hy_v4),
    "hy_v4_vl_text": Family(read=_hy_v4),
}

WRAPPERS: dict[str, Wrapper] = {
    "hy_v4_vl": Wrapper(
        text="hy_v4_vl_text",
        beside=(Beside("vision_config", "vision tower"),),
    ),
}
