"""The first Idefics and GIT: what an image leaves is not kept apart, or is text to the model."""

from __future__ import annotations

from dataclasses import replace

from kvplan.hf.blocks.base import Model
from kvplan.hf.config import Config
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import PLAIN, decoder, uncounted
from kvplan.hf.geometry import UNGROUPED

_HEADS = replace(PLAIN, dialect=UNGROUPED)
_NO_COUNT = "no count of {!r} yet"


def _idefics(config: Config) -> Model:
    """Layers that attend to the image make its keys anew for each token (modeling_idefics.py)."""
    config.ignore("cross_layer_interval", "cross_layer_activation_function")
    return uncounted(decoder(_HEADS), _NO_COUNT.format("idefics"))(config)


FAMILIES: dict[str, Family] = {
    "idefics": Family(read=_idefics, classes=("ideficsforvisiontext2text",), sees=True),
    "git": Family(read=uncounted(decoder(_HEADS), _NO_COUNT.format("git")), sees=True),
}
