"""Mistral: dense and with experts, a window on every layer or on none, latent attention."""

from __future__ import annotations

from dataclasses import replace

from kvplan.hf.families.base import Family, Wrapper
from kvplan.hf.families.decoder import PLAIN, Style, decoder
from kvplan.hf.families.experts import DEEPSEEK, MIXTRAL
from kvplan.hf.families.latent import latent_decoder
from kvplan.hf.families.mistral_vision import pixtral
from kvplan.hf.families.windows import always, mixed
from kvplan.hf.geometry import OWN_HEAD_DIM

FAMILIES: dict[str, Family] = {
    "mistral": Family(
        read=decoder(PLAIN, always),
        architectures=("LlavaMistralForCausalLM",),
    ),
    "ministral": Family(read=decoder(PLAIN, mixed())),
    "ministral3": Family(read=decoder(replace(PLAIN, dialect=OWN_HEAD_DIM), always)),
    "mixtral": Family(read=decoder(Style(), always, MIXTRAL), classes=("mixtral", "phimoe")),
    "mistral4": Family(read=latent_decoder(DEEPSEEK)),
    "mistral_large3": Family(read=latent_decoder(DEEPSEEK)),
}

WRAPPERS: dict[str, Wrapper] = {
    "mistral3": Wrapper(classes=("mistral3", "pixtral"), tower=pixtral),
}
