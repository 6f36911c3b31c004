"""Moonshot's Kimi: DeepSeek-V3 in K2."""

from __future__ import annotations

from kvplan.hf.families.base import Family, Wrapper
from kvplan.hf.families.deepseek import V3_EXPERTS
from kvplan.hf.families.kimi_vision import kimi_k3, kimi_k25
from kvplan.hf.families.latent import latent_decoder

FAMILIES: dict[str, Family] = {
    "kimi_k2": Family(read=latent_decoder(V3_EXPERTS), classes=("deepseekv3",)),
}

WRAPPERS: dict[str, Wrapper] = {
    "kimi_vl": Wrapper(),
    "kimi_k25": Wrapper(ties=True, tower=kimi_k25),
    "kimi_k3": Wrapper(tower=kimi_k3),
}
