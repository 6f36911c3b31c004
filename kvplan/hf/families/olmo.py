"""OLMo: no weights in its norms, then norms after each branch and of queries and keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvplan.hf.blocks.base import Layer, Model, Norms
from kvplan.hf.config import Config
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import (
    LLAMA,
    POST_NORM,
    PRE_NORM,
    attention,
    decoder,
    mlp,
    model,
)
from kvplan.hf.families.experts import QWEN
from kvplan.hf.families.states import gated_delta_net
from kvplan.hf.families.windows import mixed, never
from kvplan.hf.layers import FULL, LINEAR, by_type, layer_count, layer_types

_OLMO2 = replace(LLAMA, mlp_bias=False, norms=POST_NORM, qk_norm="all")
_EXPERTS = replace(QWEN, width=("intermediate_size",))


def _olmo_hybrid(config: Config) -> Model:
    """Gated DeltaNet and full attention by ``layer_types``; the state's shape has to be given.

    OlmoHybridConfig: norms stand after attention, and before what has a state.
    """
    count, plain = layer_count(config), (attention(config, _OLMO2),)
    types = layer_types(config, count, None)
    kinds = {
        FULL: lambda: plain,
        LINEAR: lambda: (replace(gated_delta_net(config), matrices="each"),),
    }

    def others() -> Sequence[Layer]:
        dense = mlp(config, _OLMO2)
        norms = {FULL: Norms(names=POST_NORM), LINEAR: Norms(names=PRE_NORM)}
        return [(dense, norms[kind]) for kind in types]

    return model(config, _OLMO2, by_type(config, types, kinds), others)


FAMILIES: dict[str, Family] = {
    "olmo": Family(read=decoder(replace(LLAMA, mlp_bias=False, norms=(), final=""))),
    "olmo2": Family(read=decoder(_OLMO2)),
    "olmo3": Family(read=decoder(_OLMO2, mixed(every=4))),
    "olmoe": Family(read=decoder(replace(LLAMA, mlp_bias=False, qk_norm="all"), never, _EXPERTS)),
    "flex_olmo": Family(read=decoder(_OLMO2, never, _EXPERTS)),
    "olmo_hybrid": Family(read=_olmo_hybrid),
}
