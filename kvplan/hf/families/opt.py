"""Meta's OPT."""

from __future__ import annotations

from dataclasses import replace

from kvplan.hf.blocks.base import Extra, Layer, Model, Norms, linear
from kvplan.hf.blocks.ends import Embedding, Head, tied
from kvplan.hf.config import Config, UncountedError
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import Style, decoder
from kvplan.hf.geometry import UNGROUPED

_ROOT = "model.decoder"
_OPT = Style(
    dialect=UNGROUPED,
    width=("ffn_dim",),
    bias=("enable_bias", True),
    out="out_proj",
    norms=("self_attn_layer_norm", "final_layer_norm"),
    norm_bias=True,
    gated=False,
    mlp_bias=("enable_bias", True),
    mlp_names=("fc1", "fc2"),
    mlp_root="",
    root=f"{_ROOT}.layers",
)


def _opt(config: Config) -> Model:
    """Positions shifted by two; embeddings may be narrower than the model (OPTConfig)."""
    return replace(decoder(_OPT)(config), ends=lambda: _ends(config))


def _ends(config: Config) -> Layer:
    if config.flag("_remove_final_layer_norm") or not config.flag("layer_norm_elementwise_affine"):
        raise UncountedError("OPT without its norms")
    hidden, rows = config.size("hidden_size"), config.size("vocab_size")
    narrow = config.maybe("word_embed_proj_dim") or hidden
    final = ("final_layer_norm",) if config.flag("do_layer_norm_before") else ()
    between = (
        *linear("other", f"{_ROOT}.project_in", hidden, narrow),
        *linear("other", f"{_ROOT}.project_out", narrow, hidden),
    )
    positions = config.size("max_position_embeddings") + 2
    return (
        Embedding(rows=positions, name=f"{_ROOT}.embed_positions"),
        Norms(names=tuple(f"{_ROOT}.{name}" for name in final), bias=True),
        Extra(tensors=between if narrow != hidden else ()),
        Embedding(rows=rows, width=narrow, name=f"{_ROOT}.embed_tokens"),
        Head(rows=rows, width=narrow, tied=tied(config, default=True)),
    )


FAMILIES: dict[str, Family] = {"opt": Family(read=_opt)}
