"""What a sequence keeps, in elements: comparable with a cache that transformers has filled."""

from __future__ import annotations

from dataclasses import dataclass

from kvplan.kinds import CacheKind
from kvplan.spec import ModelSpec

UNCOMPARED = {"compressed_kv", "latent_window", "compressor_state", "pool_tail"}
"""Of keys that are pooled: transformers pools while it reads, engines keep other tensors."""
_ROLES = {"conv": "conv", "state": "state", "index_key": "index"}


@dataclass
class Kept:
    """Elements of a sequence's cache, by what kvplan and engines call them.

    ``growth`` and ``index`` are for one more token; windows are at their full size, convolutions
    without their newest column, as engines keep them.
    """

    growth: int = 0
    index: int = 0
    window: int = 0
    conv: int = 0
    state: int = 0

    @property
    def bytes_per_token(self) -> int:
        """In bf16, without index keys."""
        return 2 * self.growth

    @property
    def fixed_bytes(self) -> int:
        """Windows and convolutions in bf16, states in fp32."""
        return 2 * (self.window + self.conv) + 4 * self.state


def kept_of(spec: ModelSpec) -> Kept:
    """The spec's caches; layers that read another's have none, nor has an encoder's input here."""
    found = Kept()
    for group, layers in spec.layer_groups(draft=False):
        for kind in group.caches:
            if not kind.per_encoder_input:
                _add(found, kind, layers)
    return found


def _add(found: Kept, kind: CacheKind, layers: int) -> None:
    """A window counts as one even where the model's own context never fills it."""
    for slot in kind.slots():
        elements = layers * slot.heads * slot.width
        if slot.role in _ROLES:
            role = _ROLES[slot.role]
            setattr(found, role, getattr(found, role) + elements)
        elif kind.growth():
            found.growth += int(elements * kind.growth())
        else:
            found.window += elements * kind.fixed_entries()
