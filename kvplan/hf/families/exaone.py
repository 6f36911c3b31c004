"""LG's EXAONE."""

from __future__ import annotations

from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import POST_NORM, Style, decoder
from kvplan.hf.families.experts import NUM_SHARED, dense_first
from kvplan.hf.families.windows import mixed

_EXAONE = Style(
    layers=("num_layers", "num_hidden_layers"),
    out="out_proj",
    attn_root="attn.attention",
    norms=("ln_1", "ln_2"),
    root="transformer.h",
    final="transformer.ln_f",
    mlp_names=("c_fc_0", "c_fc_1", "c_proj"),
    ends=("transformer.wte", "lm_head"),
    tie=None,
)
_PATTERN = ("sliding_window_pattern",)

FAMILIES: dict[str, Family] = {
    "exaone": Family(read=decoder(_EXAONE)),
    "exaone4": Family(
        read=decoder(Style(norms=POST_NORM, qk_norm="head"), mixed(pattern=_PATTERN))
    ),
    "exaone_moe": Family(
        read=decoder(Style(qk_norm="head"), mixed(pattern=_PATTERN), NUM_SHARED, dense_first)
    ),
}
