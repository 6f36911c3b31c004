"""The kinds of cache that kvplan knows, joined in one discriminated union."""

from __future__ import annotations

from typing import Annotated, get_args

from pydantic import Field

from kvplan.kinds.base import CacheKind, Slot
from kvplan.kinds.cross_attention import CrossAttention
from kvplan.kinds.deepseek_v4 import CompressedKV, CompressorState, LatentWindow
from kvplan.kinds.full_attention import FullAttention
from kvplan.kinds.index_keys import IndexKeys
from kvplan.kinds.kv_shared import KVShared
from kvplan.kinds.mla import MLA
from kvplan.kinds.recurrent import (
    GatedDeltaNet,
    KimiDeltaAttention,
    LightningAttention,
    Mamba1,
    Mamba2,
    ShortConv,
)
from kvplan.kinds.sliding_window import ChunkedLocal, SlidingWindow

AnyKind = Annotated[
    FullAttention
    | SlidingWindow
    | ChunkedLocal
    | MLA
    | IndexKeys
    | CompressedKV
    | LatentWindow
    | CompressorState
    | Mamba1
    | Mamba2
    | GatedDeltaNet
    | KimiDeltaAttention
    | LightningAttention
    | ShortConv
    | CrossAttention
    | KVShared,
    Field(discriminator="kind"),
]

KINDS: dict[str, type[CacheKind]] = {
    str(model.model_fields["kind"].default): model for model in get_args(get_args(AnyKind)[0])
}
"""Every kind by the name that a spec writes."""

__all__ = ["KINDS", "AnyKind", "CacheKind", "Slot"]
