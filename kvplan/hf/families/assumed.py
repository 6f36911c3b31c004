"""What ``--assume`` puts in the place of an architecture that is not known: caches, no weights."""

from __future__ import annotations

from dataclasses import replace

from kvplan.errors import UsageError
from kvplan.hf.blocks.base import Model, uncounted_layers
from kvplan.hf.config import Config
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import OWN_WIDTH, attention, model
from kvplan.hf.families.latent import latent_decoder
from kvplan.hf.families.windows import Windows, always, never
from kvplan.hf.layers import layer_count

_UNKNOWN = "no count of an architecture that is not known"


def _assumed(windows: Windows) -> Family:
    def read(config: Config) -> Model:
        count, full = layer_count(config), attention(config, OWN_WIDTH)
        plan = windows(config, count)
        layers = [(full.sliding(span) if span else full,) for span in plan.windows]
        return model(
            config, OWN_WIDTH, layers, uncounted_layers(_UNKNOWN), draft=layers[:1] * plan.draft
        )

    return Family(read=read)


def _latent(config: Config) -> Model:
    return replace(latent_decoder(None)(config), others=uncounted_layers(_UNKNOWN))


_ASSUMABLE = {
    "full_attention": _assumed(never),
    "sliding_window": _assumed(always()),
    "mla": Family(read=_latent),
}


def assumed_family(kind: str) -> Family:
    """Every layer keeps this kind. Raises UsageError where none can be assumed."""
    if kind not in _ASSUMABLE:
        raise UsageError(f"--assume kind={kind} is not possible: {', '.join(_ASSUMABLE)} are")
    return _ASSUMABLE[kind]
