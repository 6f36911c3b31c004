"""Mistral's Voxtral, Realtime among them: layers whose second norm is shifted by the time."""

from __future__ import annotations

from dataclasses import replace

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import Layer, extra, linear
from kvplan.hf.config import Config
from kvplan.hf.families.base import Beside, Family, Wrapper
from kvplan.hf.families.decoder import PLAIN, decoder
from kvplan.hf.families.windows import always

_RANK = 32
"""Of the two matrices that shift a norm (VoxtralRealtimeTextAdaRmsNorm, transformers 5.24.0)."""


def _shift(config: Config, _: Attention) -> Layer:
    hidden, root = config.size("hidden_size"), "ada_rms_norm"
    return (
        extra(
            linear("norm", f"{root}.linear1", _RANK, hidden),
            linear("norm", f"{root}.linear2", hidden, _RANK),
        ),
    )


FAMILIES: dict[str, Family] = {
    "voxtral_realtime_text": Family(read=decoder(replace(PLAIN, tie=True), always, extra=_shift)),
}

WRAPPERS: dict[str, Wrapper] = {
    "voxtral": Wrapper(beside=(Beside("audio_config", "audio tower"),)),
    "voxtral_realtime": Wrapper(
        text="voxtral_realtime_text",
        classes=("voxtralrealtimegeneration",),
        beside=(Beside("audio_config", "audio tower"),),
    ),
}
