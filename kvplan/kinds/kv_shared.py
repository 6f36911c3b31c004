"""Layers that read another layer's cache and keep none of their own."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Literal

from kvplan.kinds.base import Slot
from kvplan.kinds.full_attention import AttentionHeads


@dataclass(frozen=True, kw_only=True)
class KVShared(AttentionHeads):
    """Cross-layer KV sharing (Gemma-3n ``num_kv_shared_layers``, Hunyuan ``use_cla``).

    The head geometry says what the layer would keep if it did not share.
    """

    label: ClassVar[str] = "shared KV"
    formula: ClassVar[str] = "0"
    about: ClassVar[str] = "Reads the cache of an earlier layer, so it adds nothing."

    kind: Literal["kv_shared"] = "kv_shared"

    def slots(self) -> tuple[Slot, ...]:
        return ()

    def entries(self, tokens: int) -> int:
        del tokens
        return 0

    def growth(self) -> Fraction:
        return Fraction(0)
