"""Models of speech whose own figures are those of one decoder: Moshi, CSM, Higgs Audio.

What generates the codes of one frame stands in a section of its own and is not read here.
"""

from __future__ import annotations

from kvplan.hf.blocks.base import Reader
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import LLAMA, decoder, uncounted
from kvplan.hf.families.windows import always, never


def _backbone(model_type: str, *, window: bool = False) -> Reader:
    """Its keys and values; weights are those of codebooks and codec as well."""
    plain = decoder(LLAMA, always if window else never)
    return uncounted(plain, f"no count of {model_type!r} yet")


FAMILIES: dict[str, Family] = {
    "moshi": Family(read=_backbone("moshi", window=True)),
    "csm": Family(read=_backbone("csm")),
    "higgs_audio_v2": Family(read=_backbone("higgs_audio_v2")),
}
