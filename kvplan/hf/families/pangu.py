"""Huawei's openPangu (vLLM 0.33.0 openpangu.py:769): caches alone, so far."""

from __future__ import annotations

from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import LLAMA, decoder, uncounted
from kvplan.hf.families.experts import DEEPSEEK
from kvplan.hf.families.latent import latent_decoder

_NO_COUNT = "no count of openPangu yet"

FAMILIES: dict[str, Family] = {
    "PanguEmbedded": Family(read=uncounted(decoder(LLAMA), _NO_COUNT)),
    "pangu_ultra_moe": Family(
        read=uncounted(latent_decoder(DEEPSEEK), _NO_COUNT), classes=("panguultramoe",)
    ),
}
