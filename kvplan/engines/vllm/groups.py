"""Layers that share a block table, and the bytes of a block: vLLM's groups.

As vLLM 0.33.0 v1/core/kv_cache_planning.py, get_kv_cache_groups. Every block of the pool belongs to
one group at a time and is as large as the largest group needs, so a shorter group leaves a part of
each of its blocks empty.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from math import lcm

from kvplan.engines.vllm.layers import FULL, LOCAL, LayerPages, Load
from kvplan.engines.vllm.versions import NEWEST, Rules
from kvplan.errors import RefusedError
from kvplan.units import ceil_div


@dataclass(frozen=True)
class Group:
    """Layers under one block table: their numbers in the model's order, and the pages of each."""

    layers: tuple[tuple[int, LayerPages], ...]

    @cached_property
    def kinds(self) -> tuple[LayerPages, ...]:
        """The different pages of its layers."""
        return tuple(_different(self.layers))

    def pages(self, load: Load) -> int:
        """Blocks that one request of the context may need of this group."""
        return max(pages.pages(load) for pages in self.kinds)

    @property
    def is_state(self) -> bool:
        """Whether its layers are recurrent."""
        return self.layers[0][1].kind == "state"

    def growth(self, context_parallel: int) -> Fraction:
        """Blocks that one more token of a long request takes."""
        return max(pages.growth(context_parallel) for pages in self.kinds)

    def stage_bytes(self, ends: Sequence[int], *, strides: bool) -> list[int]:
        """Bytes of a block that the layers of each pipeline stage use.

        ``ends`` are the numbers of the first layers that are not in a stage any more; what comes
        after the last layer (drafts) is on the last stage.
        """
        different = {id(pages): pages for _, pages in self.layers}
        own = {key: p.stride if strides else p.page_bytes for key, p in different.items()}
        if len(ends) == 1:
            return [sum(own[id(pages)] for _, pages in self.layers)]
        sizes = [0] * len(ends)
        for index, pages in self.layers:
            sizes[min(bisect_right(ends, index), len(ends) - 1)] += own[id(pages)]
        return sizes


def _different(layers: Iterable[tuple[int, LayerPages]]) -> Iterable[LayerPages]:
    """The pages without repetition; layers of one kind share one object, so most go by that."""
    return dict.fromkeys({id(pages): pages for _, pages in layers}.values())


@dataclass(frozen=True)
class Groups:
    """The groups of a whole model; ``packed`` where pages of unequal size lie side by side."""

    groups: tuple[Group, ...]
    packed: bool = False

    def pages(self, load: Load) -> int:
        """Blocks that one request of the context may need, of all groups together."""
        return sum(group.pages(load) for group in self.groups)

    def block_bytes(self, ends: Sequence[int]) -> tuple[int, ...]:
        """Bytes of one block on a GPU of each pipeline stage, which end with these layers."""
        return (self._whole_bytes,) if len(ends) == 1 else self._stage_bytes(ends)

    @cached_property
    def _whole_bytes(self) -> int:
        return self._stage_bytes((0,))[0]

    def _stage_bytes(self, ends: Sequence[int]) -> tuple[int, ...]:
        sizes = [group.stage_bytes(ends, strides=not self.packed) for group in self.groups]
        widest = tuple(map(max, zip(*sizes, strict=True))) or (0,) * len(ends)
        if not self.packed:
            return widest
        alignment = lcm(*(pages.stride_bytes for group in self.groups for pages in group.kinds))
        return tuple(ceil_div(size, alignment) * alignment for size in widest)


def group_layers(
    layers: Sequence[tuple[int, LayerPages]],
    *,
    packed: bool = False,
    hybrid: bool = True,
    rules: Rules = NEWEST,
) -> Groups:
    """The groups that vLLM makes of a model's layers, each with its number in the model's order.

    ``packed`` is whether the attention backends lay pages of unequal size side by side
    (a block-outermost layout); ``hybrid`` whether the hybrid manager is on; ``rules`` are those of
    the release. Raises RefusedError where vLLM cannot bring the pages to one size.
    """
    if not hybrid:
        layers = _without_hybrid_manager(layers)
    if not layers:
        return Groups(())
    different = tuple(_different(layers))
    one_size = len({pages.page_bytes for pages in different}) == 1
    if _can_share_table(different) or (_is_uniform(different) and (one_size or rules.mixes_pages)):
        return Groups((Group(tuple(layers)),), packed)
    if packed and not one_size:
        return Groups(tuple(_packed_groups(layers)), packed)
    try:
        alike = _with_one_page_size(layers, rules)
    except RefusedError:
        promoted = _full_allocation(layers) if rules.pads_pages else None
        if promoted is None:
            raise
        return Groups((Group(tuple(promoted)),), packed)
    return Groups(tuple(_split(alike, rules.much_more)), packed)


def _can_share_table(pages: Iterable[LayerPages]) -> bool:
    """Whether one block table of one spec serves all of them (``merge``).

    Full layers may differ in nothing but that some are windows by computation, of one size.
    """
    different = set(pages)
    if len(different) == 1:
        return True
    if any(layer.kind not in FULL for layer in different):
        return False
    windows = {layer.window_tokens for layer in different} - {None}
    rest = {
        (layer.kind, layer.block_tokens, layer.content_bytes, layer.padded_bytes, layer.geometry)
        for layer in different
    }
    return len(windows) <= 1 and len(rest) == 1 and len({p.is_shared for p in different}) == 1


def _is_uniform(pages: Iterable[LayerPages]) -> bool:
    """Whether all layers always need as many tokens as one another (UniformTypeKVCacheSpecs)."""
    different = list(set(pages))
    if len({(p.block_tokens, p.is_shared) for p in different}) > 1:
        return False
    first = different[0]
    if first.kind in FULL:
        return all(p.kind in FULL for p in different)
    if any(p.kind != first.kind for p in different):
        return False
    if first.kind == "state":
        return len({(p.state_pages, p.page_bytes) for p in different}) == 1
    return len({p.window_tokens for p in different}) == 1


def _without_hybrid_manager(
    layers: Sequence[tuple[int, LayerPages]],
) -> Sequence[tuple[int, LayerPages]]:
    """Local layers as full ones, where there are full ones (unify_hybrid_kv_cache_specs)."""
    result = list(layers)
    for copied in (False, True):
        places = [i for i, (_, pages) in enumerate(layers) if _is_copied(pages) is copied]
        promoted = _promoted([layers[i] for i in places])
        kinds = tuple(_different(promoted))
        if kinds and not (_is_uniform(kinds) or _can_share_table(kinds)):
            raise _needs_hybrid_manager(
                "Failed to promote local KV cache specs to one unified type."
            )
        for place, item in zip(places, promoted, strict=True):
            result[place] = item
    return result


def _is_copied(pages: LayerPages) -> bool:
    """Whether every GPU of a decode context parallel group has all of this attention's tokens.

    Recurrent states are told apart from these, though they are on every GPU as well.
    """
    return pages.kind != "state" and not pages.is_shared


def _needs_hybrid_manager(reason: str) -> RefusedError:
    return RefusedError(
        f"vLLM cannot serve this model without its hybrid KV cache manager: {reason}",
        "leave disable_hybrid_kv_cache_manager out",
    )


def _promoted(layers: Sequence[tuple[int, LayerPages]]) -> Sequence[tuple[int, LayerPages]]:
    kinds = {pages.kind for _, pages in layers}
    different = tuple(_different(layers))
    if not layers or _can_share_table(different) or _is_uniform(different):
        return layers
    if not kinds & FULL or not kinds & LOCAL:
        return layers
    if "sliding_mla" in kinds:
        # v1/core/kv_cache_planning.py:783: the class of full latents has no such field.
        raise _needs_hybrid_manager(
            "MLAAttentionSpec.__init__() got an unexpected keyword argument 'bounded_replay'"
        )
    sizes = {pages.block_tokens for _, pages in layers if pages.kind in FULL}
    size = sizes.pop() if len(sizes) == 1 else None
    return [
        (i, pages.as_full(size or pages.block_tokens) if pages.kind in LOCAL else pages)
        for i, pages in layers
    ]


def _full_allocation(
    layers: Sequence[tuple[int, LayerPages]],
) -> Sequence[tuple[int, LayerPages]] | None:
    """Latents beside windows of other pages: windows are given room for all tokens."""
    kinds = {pages.kind for _, pages in layers}
    if kinds & {"sliding_mla", "chunked"} or not {"mla", "sliding"} <= kinds:
        return None
    promoted = _promoted(layers)
    return promoted if _is_uniform(pages for _, pages in promoted) else None


def _with_one_page_size(
    layers: Sequence[tuple[int, LayerPages]], rules: Rules
) -> Sequence[tuple[int, LayerPages]]:
    """All pages as large as the largest: more tokens to a page, or padding.

    unify_kv_cache_spec_page_size. Raises RefusedError for a latent's page that does not divide it,
    and where the release does not change pages so.
    """
    different = tuple(_different(layers))
    largest = max(pages.page_bytes for pages in different)
    resized: dict[LayerPages, LayerPages] = {}
    for pages in different:
        if pages.page_bytes == largest:
            resized[pages] = pages
        elif pages.kind == "state" and rules.caches_states:
            resized[pages] = pages.padded_to(largest)
        elif rules.resizes_pages and largest % pages.page_bytes == 0:
            ratio = largest // pages.page_bytes
            resized[pages] = pages.in_blocks_of(pages.block_tokens * ratio)
        elif rules.pads_pages and pages.kind != "mla":
            resized[pages] = pages.padded_to(largest)
        else:
            raise RefusedError(
                f"vLLM {rules.release} cannot bring this model's pages to one size: page size is "
                "not divisible by the maximum page size and cannot be padded (non-MLA attention "
                "layers only)"
            )
    same = {id(pages): resized[pages] for _, pages in layers}
    return [(index, same[id(pages)]) for index, pages in layers]


def _split(layers: Sequence[tuple[int, LayerPages]], much_more: float) -> list[Group]:
    """Groups of about as many layers each, dealt out in turn.

    _get_kv_cache_groups_uniform_page_size: as many as the kind with the fewest has, or as the one
    with the most where that is less than ``much_more`` times as many.
    """
    buckets: list[list[tuple[int, LayerPages]]] = []
    kinds: list[set[LayerPages]] = []
    bucket_of: dict[int, int] = {}
    for item in layers:
        if id(item[1]) not in bucket_of:
            bucket_of[id(item[1])] = _bucket_of(item[1], kinds)
        number = bucket_of[id(item[1])]
        if number == len(buckets):
            buckets.append([])
        buckets[number].append(item)
    fewest, most = min(map(len, buckets)), max(map(len, buckets))
    size = most if most < fewest * much_more else fewest
    groups = []
    for bucket in buckets:
        number = ceil_div(len(bucket), size)
        groups += [Group(tuple(bucket[i::number])) for i in range(number)]
    return groups


def _bucket_of(pages: LayerPages, kinds: list[set[LayerPages]]) -> int:
    """The bucket that these pages can share a table with; a new one where there is none."""
    for number, members in enumerate(kinds):
        if pages in members or _can_share_table((*members, pages)):
            members.add(pages)
            return number
    kinds.append({pages})
    return len(kinds) - 1


@dataclass
class _Bucket:
    """Layers that always need as many tokens as one another, by the size of their pages."""

    layers: list[tuple[int, LayerPages]]
    kinds: dict[LayerPages, None] = field(default_factory=dict)

    @property
    def by_size(self) -> dict[int, list[tuple[int, LayerPages]]]:
        sizes: dict[int, list[tuple[int, LayerPages]]] = {}
        for item in self.layers:
            sizes.setdefault(item[1].page_bytes, []).append(item)
        return sizes

    @property
    def is_balanced(self) -> bool:
        return len(set(map(len, self.by_size.values()))) == 1

    @property
    def repeats(self) -> int:
        """The most layers with pages of one size."""
        return max(Counter(pages.page_bytes for _, pages in self.layers).values())

    def number(self, repeats: int | None) -> int:
        """Groups that it is cut in, of so many repeats of the pattern each."""
        if self.is_balanced and repeats is not None:
            return ceil_div(self.repeats, repeats)
        return 1

    def is_state(self, repeats: int | None) -> bool:
        """Whether it may be cut down to one layer a group."""
        kind = self.layers[0][1].kind
        return kind in ("state", "ring") or (repeats is None and kind in ("sliding", "sliding_mla"))

    def least_bytes(self, repeats: int | None) -> int:
        """Page bytes that a block has to have for the largest of its groups."""
        number = len(self.layers) if self.is_state(repeats) else self.number(repeats)
        return sum(ceil_div(len(same), number) * size for size, same in self.by_size.items())


def _packed_groups(layers: Sequence[tuple[int, LayerPages]]) -> Iterable[Group]:
    """Groups whose pages of unequal size fill about equal blocks (_get_packed_kv_cache_groups)."""
    buckets = _buckets(layers)
    balanced = [bucket for bucket in buckets if bucket.is_balanced]
    floor = max((b.repeats for b in balanced if len(b.by_size) > 1), default=0)
    repeats = _chunk([bucket.repeats for bucket in balanced], floor) if floor else None
    anchor_bytes = max(bucket.least_bytes(repeats) for bucket in buckets)
    for bucket in buckets:
        number = bucket.number(repeats)
        if anchor_bytes and bucket.is_state(repeats):
            in_block = max(anchor_bytes // bucket.layers[0][1].page_bytes, 1)
            number = max(number, ceil_div(len(bucket.layers), in_block))
        if number == 1:
            yield Group(tuple(bucket.layers))
            continue
        patterns = list(zip(*bucket.by_size.values(), strict=False))
        for i in range(number):
            yield Group(tuple(item for pattern in patterns[i::number] for item in pattern))


def _buckets(layers: Sequence[tuple[int, LayerPages]]) -> list[_Bucket]:
    buckets: list[_Bucket] = []
    bucket_of: dict[int, _Bucket] = {}
    for item in layers:
        pages = item[1]
        if id(pages) not in bucket_of:
            fitting = (each for each in buckets if _is_uniform((*each.kinds, pages)))
            bucket = next(fitting, None) or _Bucket([])
            if not bucket.layers:
                buckets.append(bucket)
            bucket.kinds[pages] = None
            bucket_of[id(pages)] = bucket
        bucket_of[id(pages)].layers.append(item)
    return buckets


def _chunk(counts: list[int], least: int) -> int:
    """The size to whose multiples the counts are rounded up with the least sum, the largest one.

    _approximate_gcd.
    """
    sizes = range(max(1, least), max(counts) + 1) or (least,)
    return max(sizes, key=lambda size: (-sum(-count % size for count in counts), size))
