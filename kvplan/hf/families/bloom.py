"""BigScience's BLOOM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvplan.hf.blocks.base import Layer, Model, Norms
from kvplan.hf.config import Config
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import Style, attention, ends, mlp, model, norms
from kvplan.hf.families.windows import never
from kvplan.hf.geometry import Dialect
from kvplan.hf.layers import layer_count

_BLOOM = Style(
    dialect=Dialect(("num_attention_heads", "n_head"), ("hidden_size", "n_embed"), (), ()),
    layers=("n_layer", "num_hidden_layers"),
    hidden=("hidden_size", "n_embed"),
    bias=True,
    fused="query_key_value",
    out="dense",
    attn_root="self_attention",
    norm_bias=True,
    gated=False,
    mlp_bias=True,
    mlp_names=("dense_h_to_4h", "dense_4h_to_h"),
    root="transformer.h",
    final="transformer.ln_f",
    ends=("transformer.word_embeddings", "lm_head"),
    tie=True,
)


def _bloom(config: Config) -> Model:
    """A norm after the embedding, biases everywhere, an MLP of four times the hidden size."""
    heads, count = attention(config, _BLOOM), layer_count(config, *_BLOOM.layers)
    draft = never(config, count).draft

    def others() -> Sequence[Layer]:
        dense = mlp(config, _BLOOM, width=4 * config.size(*_BLOOM.hidden))
        return [(dense, norms(_BLOOM))] * count

    first = Norms(names=("transformer.word_embeddings_layernorm",), bias=True)
    plain = model(config, _BLOOM, [(heads,)] * count, others, draft=[(heads,)] * draft)
    return replace(plain, ends=lambda: (first, *ends(config, _BLOOM)))


FAMILIES: dict[str, Family] = {"bloom": Family(read=_bloom)}
