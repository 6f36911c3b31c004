"""Decoders with fairseq's layers: BioGPT and XGLM."""

from __future__ import annotations

from dataclasses import replace

from kvplan.hf.blocks.base import Layer, Model
from kvplan.hf.blocks.ends import Embedding
from kvplan.hf.config import Config
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import Style, decoder, ends
from kvplan.hf.geometry import UNGROUPED, Dialect

_BIOGPT = Style(
    dialect=UNGROUPED,
    bias=True,
    out="out_proj",
    norms=("self_attn_layer_norm", "final_layer_norm"),
    norm_bias=True,
    gated=False,
    mlp_bias=True,
    mlp_names=("fc1", "fc2"),
    mlp_root="",
    root="biogpt.layers",
    final="biogpt.layer_norm",
    ends=("biogpt.embed_tokens", "output_projection"),
    tie=True,
)
XGLM = replace(
    _BIOGPT,
    dialect=Dialect(("attention_heads",), ("d_model",), (), ()),
    layers=("num_layers", "num_hidden_layers"),
    hidden=("d_model",),
    width=("ffn_dim",),
    root="model.layers",
    final="model.layer_norm",
    ends=("model.embed_tokens", "lm_head"),
)


def _biogpt(config: Config) -> Model:
    """Learned positions, shifted by two (BioGptLearnedPositionalEmbedding)."""

    def all_ends() -> Layer:
        rows = config.size("max_position_embeddings") + 2
        return (Embedding(rows=rows, name="biogpt.embed_positions"), *ends(config, _BIOGPT))

    return replace(decoder(_BIOGPT)(config), ends=all_ends)


FAMILIES: dict[str, Family] = {
    "biogpt": Family(read=_biogpt),
    "xglm": Family(read=decoder(XGLM)),
}
