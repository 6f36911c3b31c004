"""``per_layer_config``: what transformers 5 saves of layers that differ from the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.config import Config

_KEYS = ("num_attention_heads", "num_key_value_heads", "head_dim")
_DIGITS = 5


def layer_sections(section: Config, layers: int) -> dict[int, Config]:
    """What the section has for each of so many layers.

    Keys are indices, padded with zeros: "05", "11" (integrations/heterogeneity of transformers
    5.24.0). Raises RefusedError for any other.
    """
    found: dict[int, Config] = {}
    for key in section.raw:
        index = int(key) if key.isdecimal() and len(key) <= _DIGITS else layers
        entry = section.section(key)
        if index >= layers or index in found or entry is None:
            section.refuse(f"{section.name(key)}: there is no such layer among {layers:,}")
        found[index] = entry
    return found


def per_layer_heads(section: Config, heads: Sequence[Attention]) -> list[Attention]:
    """Each layer's attention with the figures that the section has for it.

    Raises RefusedError for figures of anything but heads.
    """
    own = list(heads)
    for index, entry in layer_sections(section, len(own)).items():
        other = sorted(entry.raw.keys() - set(_KEYS))
        if other:
            section.refuse(f"{entry.name(other[0])}: what that does to a layer is not known")
        count, kv, width = (entry.maybe(name) for name in _KEYS)
        base = own[index]
        own[index] = replace(
            base, heads=count or base.heads, kv=kv or base.kv, width=width or base.width
        )
    return own
