"""IBM's Granite."""

from __future__ import annotations

from dataclasses import replace

from kvplan.hf.blocks.mlp import GATED
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import LLAMA, decoder
from kvplan.hf.families.experts import MIXTRAL
from kvplan.hf.families.windows import mixed, never
from kvplan.hf.geometry import DENSE

_NO_MLP_BIAS = replace(LLAMA, mlp_bias=False)
_EXPERTS = replace(MIXTRAL, router="router.layer", names=GATED, shared_root="shared_mlp")
_SHARED = replace(_EXPERTS, shared_width="shared_intermediate_size")

FAMILIES: dict[str, Family] = {
    "granite": Family(read=decoder(LLAMA)),
    "granite_swa": Family(
        read=decoder(replace(LLAMA, dialect=DENSE, tie=True, sinks="sinks"), mixed())
    ),
    "granitemoe": Family(read=decoder(_NO_MLP_BIAS, never, _EXPERTS)),
    "granitemoeshared": Family(read=decoder(_NO_MLP_BIAS, never, _SHARED)),
}
