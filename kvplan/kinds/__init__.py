"""The kinds of cache that kvplan knows; each is loaded when a model first needs it."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from kvplan.kinds.base import CacheKind, Slot

_HOMES = {
    "full_attention": "full_attention.FullAttention",
    "sliding_window": "sliding_window.SlidingWindow",
    "chunked_local": "sliding_window.ChunkedLocal",
    "mla": "mla.MLA",
    "sliding_mla": "mla.SlidingMLA",
    "index_keys": "index_keys.IndexKeys",
    "pool_tail": "index_keys.PoolTail",
    "compressed_kv": "deepseek_v4.CompressedKV",
    "latent_window": "deepseek_v4.LatentWindow",
    "compressor_state": "deepseek_v4.CompressorState",
    "mamba1": "recurrent.Mamba1",
    "mamba2": "recurrent.Mamba2",
    "gated_delta_net": "recurrent.GatedDeltaNet",
    "kimi_delta_attention": "recurrent.KimiDeltaAttention",
    "lightning_attention": "recurrent.LightningAttention",
    "short_conv": "recurrent.ShortConv",
    "rg_lru": "recurrent.RgLru",
    "mlstm": "recurrent.Mlstm",
    "rwkv4": "recurrent.Rwkv4",
    "rwkv": "recurrent.Rwkv",
    "state": "state.State",
    "cross_attention": "cross_attention.CrossAttention",
    "kv_shared": "kv_shared.KVShared",
}

KINDS = tuple(_HOMES)
"""Every kind by the name that a spec writes."""


@cache
def kind_class(name: str) -> type[CacheKind]:
    """The class of this kind. Raises KeyError for a name that is none."""
    module, _, attribute = _HOMES[name].partition(".")
    found: type[CacheKind] = getattr(import_module(f"kvplan.kinds.{module}"), attribute)
    return found


class AnyKind:
    """Marks a spec's list of caches: pydantic joins all kinds in a union told apart by ``kind``."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """The schema of a tuple of any of the kinds (pydantic's hook for Annotated metadata)."""
        del source
        from typing import Annotated, Union

        from pydantic import Field

        classes = tuple(kind_class(name) for name in KINDS)
        joined: Any = Union[classes]  # noqa: UP007 - made at run time
        one: Any = Annotated[joined, Field(discriminator="kind")]
        return handler.generate_schema(tuple[one, ...])


__all__ = ["KINDS", "AnyKind", "CacheKind", "Slot", "kind_class"]
