"""Cohere's Command: one norm before two parallel branches, embedding and head tied."""

from __future__ import annotations

from dataclasses import replace

from kvplan.hf.blocks.base import Model
from kvplan.hf.config import Config
from kvplan.hf.families.base import Family, Wrapper
from kvplan.hf.families.decoder import INPUT, LLAMA, decoder
from kvplan.hf.families.windows import mixed
from kvplan.hf.geometry import OWN_HEAD_DIM

_COHERE = replace(
    LLAMA,
    mlp_bias=False,
    norms=(INPUT,),
    qk_norm="each",
    qk_norm_key=("use_qk_norm", False),
    tie=True,
    tie_keys=("use_embedding_sharing",),
)
_PATTERN = ("sliding_window_pattern", "_sliding_window_pattern")


def _cohere2_moe(config: Config) -> Model:
    """``layer_types`` decides; the patterns only fill it in where it is missing."""
    config.ignore("prefix_dense_sliding_window_pattern", "sliding_window_pattern")
    style = replace(_COHERE, dialect=OWN_HEAD_DIM, qk_norm="")
    return decoder(style, mixed(), uncounted="no count of 'cohere2_moe' yet")(config)


FAMILIES: dict[str, Family] = {
    "cohere": Family(read=decoder(_COHERE)),
    "cohere2": Family(read=decoder(replace(_COHERE, qk_norm=""), mixed(4, _PATTERN))),
    "cohere2_moe": Family(read=_cohere2_moe),
}

WRAPPERS: dict[str, Wrapper] = {
    "aya_vision": Wrapper(ties=True),
    "cohere2_vision": Wrapper(ties=True),
}
