"""Meta's Chameleon: Llama's layers with a LayerNorm of every head's queries and keys."""

from __future__ import annotations

from dataclasses import replace

from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import LLAMA, decoder

_STYLE = replace(LLAMA, qk_norm="each", qk_norm_bias=True)

FAMILIES: dict[str, Family] = {"chameleon": Family(read=decoder(_STYLE), sees=True)}
