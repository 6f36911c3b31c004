"""What a model and a GPU are: the inputs, frozen and strict."""

from __future__ import annotations

import re
from collections import Counter
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from kvplan.kinds import AnyKind, CacheKind
from kvplan.units import ceil_div

WEIGHT_BITS = {
    "fp32": 32,
    "bf16": 16,
    "fp16": 16,
    "fp8": 8,
    "int8": 8,
    "e8m0": 8,
    "int4": 4,
    "fp4": 4,
    "int32": 32,
    "int64": 64,
}
"""Bits of one stored element; block scales are elements of their own (fp8 blocks: fp32 scales)."""

MAX_LAYERS = 10_000

Text = Annotated[str, Field(min_length=1, max_length=2_000)]
LayerCount = Annotated[int, Field(gt=0, le=MAX_LAYERS)]
Count = Annotated[int, Field(gt=0, le=10**15)]

_REPEAT = re.compile(r"(.+?)\s*\*\s*(\d{1,5})")


class Input(BaseModel):
    """Base of everything read from a file: no unknown keys, no conversions, no changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)


class Parameters(Input):
    """Parameters without draft (MTP) layers; ``active`` are those that one token uses.

    ``active`` is None where it varies by token (LongCat-Flash's zero experts).
    """

    total: Count
    active: Count | None

    @model_validator(mode="after")
    def _active_within_total(self) -> Self:
        if self.active and self.active > self.total:
            raise ValueError("active parameters cannot be more than the total")
        return self


class StoredWeights(Input):
    """Elements of one dtype in the published checkpoint, block scales among them."""

    dtype: Literal["fp32", "bf16", "fp16", "fp8", "int8", "e8m0", "int4", "fp4", "int32", "int64"]
    elements: Count
    what: Text | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes that these elements take in the checkpoint."""
        return ceil_div(self.elements * WEIGHT_BITS[self.dtype], 8)


class Group(Input):
    """Layers that keep the same caches: one, several (Falcon-H1), or none (an MLP layer).

    A single cache may stand inline: ``{layers: 61, kind: mla, ...}``.
    """

    name: Text | None = None
    layers: LayerCount | None = None
    caches: Annotated[tuple[AnyKind, ...], Field(strict=False)]

    @model_validator(mode="before")
    @classmethod
    def _inline_cache(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "kind" not in data or "caches" in data:
            return data
        own = {key: data[key] for key in ("name", "layers") if key in data}
        cache = {key: value for key, value in data.items() if key not in own}
        return {**own, "caches": [cache]}


class ModelSpec(Input):
    """One model: its layers by what they cache, and the facts that sizing needs.

    Layers are groups with a count each, or named groups and a ``pattern`` of their names that is
    repeated over ``layers`` layers (``[local*5, global]``).
    """

    name: Text
    source: Text
    aliases: Annotated[tuple[Text, ...], Field(strict=False)] = ()
    notes: Text | None = None
    native_context_tokens: Annotated[int, Field(gt=0, le=1 << 40)] | None
    dtype: Literal["bf16", "fp16", "fp32"]
    kv_cache_dtype: Text | None = None
    """The KV scheme that the checkpoint itself names; None where ``auto`` is the model's dtype."""
    parameters: Parameters | None = None
    weights: Annotated[tuple[StoredWeights, ...], Field(strict=False)] = ()
    layers: LayerCount | None = None
    pattern: Annotated[tuple[Text, ...], Field(strict=False)] = ()
    groups: Annotated[tuple[Group, ...], Field(strict=False, min_length=1)]
    draft: Annotated[tuple[Group, ...], Field(strict=False)] = ()
    """Layers of the multi-token-prediction head: cached only where a draft model is served."""

    @model_validator(mode="after")
    def _plan_is_whole(self) -> Self:
        if self.pattern:
            self._check_pattern()
            return self
        if any(group.layers is None for group in (*self.groups, *self.draft)):
            raise ValueError("every group needs its number of layers, or the spec a pattern")
        counted = sum(group.layers or 0 for group in self.groups)
        if self.layers not in (None, counted):
            raise ValueError(f"layers is {self.layers}, but the groups have {counted}")
        return self

    def _check_pattern(self) -> None:
        if self.layers is None:
            raise ValueError("a pattern needs layers: how many it is repeated over")
        if any(group.layers is not None for group in self.groups):
            raise ValueError("with a pattern, groups carry names and no layer counts")
        names = [group.name for group in self.groups]
        if None in names or len(set(names)) != len(names):
            raise ValueError("with a pattern, every group needs a name of its own")
        unknown = {name for name in self._cycle() if name not in names}
        if unknown:
            raise ValueError(f"the pattern names no such group: {', '.join(sorted(unknown))}")
        unused = set(names) - set(self.layer_names())
        if unused:
            raise ValueError(
                f"the pattern never reaches: {', '.join(map(str, sorted(unused, key=str)))}"
            )

    def _cycle(self) -> list[str]:
        names: list[str] = []
        for item in self.pattern:
            match = _REPEAT.fullmatch(item)
            name, times = match.groups() if match else (item, "1")
            names += [name] * min(int(times), MAX_LAYERS)
            if len(names) > MAX_LAYERS:
                raise ValueError(f"the pattern names more than {MAX_LAYERS} layers")
        return names

    def layer_names(self) -> tuple[str, ...]:
        """The group of every layer in order, where the spec has a pattern."""
        cycle = self._cycle()
        return tuple(cycle[index % len(cycle)] for index in range(self.total_layers))

    @property
    def total_layers(self) -> int:
        """Layers of the main model, those that cache nothing included."""
        return self.layers or sum(group.layers or 0 for group in self.groups)

    def layer_groups(self, *, draft: bool = False) -> tuple[tuple[Group, int], ...]:
        """Each group and the number of its layers; draft layers too where asked for."""
        groups = tuple((group, group.layers or 0) for group in self.groups)
        if self.pattern:
            count = Counter(self.layer_names())
            groups = tuple((group, count[str(group.name)]) for group in self.groups)
        extra = tuple((group, group.layers or 0) for group in self.draft) if draft else ()
        return groups + extra

    def caches(self, *, draft: bool = False) -> tuple[tuple[CacheKind, int, int], ...]:
        """Every different cache with its layers and its number of copies over all of them.

        The two numbers differ where a layer keeps the same cache twice (LongCat-Flash).
        """
        layers: Counter[CacheKind] = Counter()
        copies: Counter[CacheKind] = Counter()
        for group, count in self.layer_groups(draft=draft):
            kinds = [cache.bounded_by(self.native_context_tokens) for cache in group.caches]
            for kind in dict.fromkeys(kinds):
                layers[kind] += count
                copies[kind] += count * kinds.count(kind)
        return tuple((kind, layers[kind], copies[kind]) for kind in layers)

    @property
    def cached_layers(self) -> int:
        """Layers that keep a cache of their own."""
        return sum(
            count
            for group, count in self.layer_groups()
            if any(cache.slots() for cache in group.caches)
        )

    @property
    def weights_bytes(self) -> int | None:
        """Bytes of the published checkpoint without draft layers; None where not known."""
        return sum(row.size_bytes for row in self.weights) or None


class Gpu(Input):
    """One accelerator of the catalogue; memory is what the driver lets a process see."""

    name: Text
    aliases: Annotated[tuple[Text, ...], Field(strict=False)] = ()
    description: Text
    memory_bytes: Count
    memory_basis: Literal["measured", "torch-log", "driver-log"]
    driver_memory_mib: Count | None
    bandwidth_bytes_per_s: Count | None
    bf16_flops: Annotated[int, Field(gt=0)] | None
    fp16_flops: Annotated[int, Field(gt=0)] | None = None
    fp8_flops: Annotated[int, Field(gt=0)] | None
    link_bytes_per_s: Count | None
    gpus_per_node: Count | None
    sources: Text
