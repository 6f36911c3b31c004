"""OLMo: no weights in its norms, then norms after each branch and of queries and keys."""

from __future__ import annotations

from dataclasses import replace

from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import LLAMA, POST_NORM, decoder
from kvplan.hf.families.experts import QWEN
from kvplan.hf.families.windows import mixed, never

_OLMO2 = replace(LLAMA, mlp_bias=False, norms=POST_NORM, qk_norm="all")
_EXPERTS = replace(QWEN, width=("intermediate_size",))

FAMILIES: dict[str, Family] = {
    "olmo": Family(read=decoder(replace(LLAMA, mlp_bias=False, norms=(), final=""))),
    "olmo2": Family(read=decoder(_OLMO2)),
    "olmo3": Family(read=decoder(_OLMO2, mixed(every=4))),
    "olmoe": Family(read=decoder(replace(LLAMA, mlp_bias=False, qk_norm="all"), never, _EXPERTS)),
    "flex_olmo": Family(read=decoder(_OLMO2, never, _EXPERTS)),
}
