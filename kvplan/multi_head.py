"""The same model with full attention on every layer: what a cache is held against."""

from __future__ import annotations

from dataclasses import replace

from kvplan.calc import Footprint, footprint
from kvplan.dtypes import as_written
from kvplan.errors import UsageError
from kvplan.formats import cache_format
from kvplan.groups import Group
from kvplan.spec import ModelSpec


def as_full_attention(spec: ModelSpec, kv_heads: int | None = None) -> ModelSpec | None:
    """The same model with full attention of ``kv_heads`` KV heads (None: multi-head attention).

    Every attention layer keeps keys and values of every token; recurrent states stay as they are;
    weights stay the model's own. None where the model has no attention. Raises UsageError where
    the heads cannot be grouped like that.
    """
    try:
        groups = tuple(_group_as_full_attention(group, kv_heads) for group in spec.groups)
        draft = tuple(_group_as_full_attention(group, kv_heads) for group in spec.draft)
    except ValueError:
        raise UsageError(
            f"the attention heads of {spec.name} do not divide into {kv_heads} KV heads"
        ) from None
    if not any(cache.query_heads() for group in groups for cache in group.caches):
        return None
    return replace(spec, groups=groups, draft=draft)


def _group_as_full_attention(group: Group, kv_heads: int | None) -> Group:
    caches = (cache.as_full_attention(kv_heads) for cache in group.caches)
    return replace(group, caches=tuple(cache for cache in caches if cache is not None))


def multi_head_footprint(spec: ModelSpec, like: Footprint) -> Footprint | None:
    """What the same model would keep with full multi-head attention, whole, in the same KV dtype.

    A layout made for latents (fp8_ds_mla) has none for keys and values; theirs is taken at the
    same bits an element. None for a model without attention.
    """
    multi_head = as_full_attention(spec)
    if multi_head is None:
        return None
    plain = cache_format(like.kv_cache_dtype).for_keys_and_values
    return footprint(
        multi_head,
        like.context_tokens,
        like.sequences,
        as_written(plain, llama_cpp=like.llama_cpp),
        draft=like.draft,
        beside=like.beside,
    )
