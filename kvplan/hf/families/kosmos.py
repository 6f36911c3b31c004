"""Microsoft's Kosmos-2 and 2.5: fairseq's layers with norms inside attention and MLP."""

from __future__ import annotations

from dataclasses import replace

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import Layer, Model, Norms, Reader
from kvplan.hf.blocks.ends import Embedding
from kvplan.hf.config import Config
from kvplan.hf.families.base import Beside, Family, Wrapper
from kvplan.hf.families.decoder import decoder, ends
from kvplan.hf.families.fairseq import XGLM
from kvplan.hf.geometry import Dialect

_KOSMOS = replace(
    XGLM,
    dialect=Dialect(("attention_heads",), ("embed_dim",), (), ()),
    layers=("layers",),
    hidden=("embed_dim",),
    mlp_root="ffn",
    root="text_model.model.layers",
    final="text_model.model.layer_norm",
    ends=("text_model.model.embed_tokens", "text_model.lm_head"),
)


def _inner_norms(*, attention: bool) -> Reader:
    def norms(config: Config, _: Attention) -> Layer:
        inner = Norms(names=("ffn.ffn_layernorm",), width=config.size("ffn_dim"), bias=True)
        own = Norms(names=("self_attn.inner_attn_ln",), bias=True)
        return (inner, own) if attention else (inner,)

    return decoder(_KOSMOS, extra=norms)


def _kosmos25(config: Config) -> Model:
    """Two rows say whether a token is of the image (Kosmos2_5TextTransformer)."""
    plain = _inner_norms(attention=False)(config)
    segments = Embedding(rows=2, name="text_model.model.segment_emb")
    return replace(plain, ends=lambda: (segments, *ends(config, _KOSMOS)))


_SEES = (Beside("vision_config", "vision tower"),)

FAMILIES: dict[str, Family] = {
    "kosmos_2_text_model": Family(read=_inner_norms(attention=True)),
    "kosmos_2_5_text_model": Family(read=_kosmos25),
}

WRAPPERS: dict[str, Wrapper] = {
    "kosmos-2": Wrapper(text="kosmos_2_text_model", beside=_SEES),
    "kosmos-2.5": Wrapper(text="kosmos_2_5_text_model", beside=_SEES),
}
