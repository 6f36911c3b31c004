"""Ant's Ling and Ring (Bailing)."""

from __future__ import annotations

from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import PLAIN, decoder

FAMILIES: dict[str, Family] = {
    "bailing_moe": Family(
        read=decoder(PLAIN, uncounted="no count of 'bailing_moe' yet"),
        classes=("bailingmoe", "bailingmoev2"),
    ),
    "bailing_moe_v2": Family(
        read=decoder(PLAIN, uncounted="no count of 'bailing_moe_v2' yet"),
        classes=("bailingmoev2",),
    ),
}
