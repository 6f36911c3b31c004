"""NVIDIA's Nemotron."""

from __future__ import annotations

from dataclasses import replace

from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import LLAMA, decoder

FAMILIES: dict[str, Family] = {
    "nemotron": Family(read=decoder(replace(LLAMA, gated=False, norm_bias=True))),
}
