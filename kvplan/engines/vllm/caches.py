"""The caches of a model's layers as vLLM registers them: pages, in the model's order of layers.

One function a kind of cache. Shapes, block sizes and alignments as in vLLM 0.33.0; each kind names
the file that says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

from kvplan.calc import PackedCaches, PackedSlot
from kvplan.engines.vllm.layers import Kind, LayerPages
from kvplan.errors import RefusedError
from kvplan.groups import Group
from kvplan.kinds import CacheKind
from kvplan.units import ceil_div

_V4_WINDOW_TOKENS = 64  # models/deepseek_v4, DeepseekV4SWACache: block_size
_STATE_TOKENS = {4: 4, 128: 8}  # models/deepseek_v4/compressor.py:163, by compress_ratio


@dataclass(frozen=True, kw_only=True)
class BlockSizes:
    """What the attention backends and the alignment of a hybrid settled before layers are paged."""

    attention_tokens: int
    """cache_config.block_size."""
    window_tokens: int | None = None
    """Tokens of a window's page where its backend cannot run the attention's; None: the same."""
    state_tokens: int = 1
    """Tokens that a page of state stands for: it says which pages can share a table."""
    state_bytes: int | None = None
    """What a page of state is padded to."""
    state_pages: int = 1
    speculative_tokens: int = 0
    alignment_bytes: int = 1
    """What DeepSeek-V4's pages are rounded up to: FlashMLA's packed vectors, or plain rows."""


@dataclass(frozen=True)
class _Cache:
    """One cache on one GPU: its kind, and its tensors as they are packed there."""

    kind: CacheKind
    slots: tuple[PackedSlot, ...]

    @property
    def entry_bytes(self) -> int:
        return sum(slot.bytes_per_entry for slot in self.slots)

    @property
    def geometry(self) -> tuple[object, ...]:
        return tuple((slot.role, slot.heads, slot.width, slot.format) for slot in self.slots)

    def whole(self, name: str) -> int:
        """A whole number that the kind states, such as its window."""
        return cast("int", getattr(self.kind, name))


def layer_pages(
    caches: PackedCaches, tensor_parallel: int, blocks: BlockSizes
) -> list[tuple[int, LayerPages]]:
    """Every cache of every layer, with the layer's number; a drafter's come after the model's.

    Raises RefusedError for a cache whose pages in vLLM are not known.
    """
    paged: dict[CacheKind, LayerPages | None] = {}
    layers: list[tuple[int, LayerPages]] = []
    for index, kinds in enumerate(_kinds_in_order(caches)):
        for kind in kinds:
            if kind not in paged:
                paged[kind] = _page(caches, kind, tensor_parallel, blocks)
            pages = paged[kind]
            if pages is not None:
                layers.append((index, pages))
    if caches.drafter is not None:
        first = len(layers) and layers[-1][0] + 1
        drafted = layer_pages(caches.drafter, tensor_parallel, blocks)
        layers += [(max(first, caches.spec.total_layers) + i, pages) for i, pages in drafted]
    return layers


def _kinds_in_order(caches: PackedCaches) -> Iterator[tuple[CacheKind, ...]]:
    spec = caches.spec
    for index in spec.layer_order():
        yield spec.groups[index].caches
    if caches.draft:
        yield from (caches_ for group in spec.draft for caches_ in _repeated(group))


def _repeated(group: Group) -> Iterator[tuple[CacheKind, ...]]:
    return (group.caches for _ in range(group.layers or 0))


def _page(
    caches: PackedCaches, kind: CacheKind, tensor_parallel: int, blocks: BlockSizes
) -> LayerPages | None:
    slots = tuple(slot.on_rank(tensor_parallel) for slot in caches.slots[kind])
    if not slots:
        return None
    page = _PAGES.get(kind.kind, _state if kind.fixed_entries() == 1 else None)
    if page is None:
        raise RefusedError(
            f"{caches.spec.name}: how vLLM pages {kind.tag()} is not known",
            "leave engine out: plain arithmetic knows its bytes",
        )
    return page(_Cache(kind, slots), blocks)


def _full(kind: Kind) -> Callable[[_Cache, BlockSizes], LayerPages]:
    def page(cache: _Cache, blocks: BlockSizes) -> LayerPages:
        tokens = blocks.attention_tokens
        return LayerPages(
            kind=kind,
            block_tokens=tokens,
            content_bytes=tokens * cache.entry_bytes,
            geometry=cache.geometry,
        )

    return page


def _window(kind: Kind, key: str) -> Callable[[_Cache, BlockSizes], LayerPages]:
    def page(cache: _Cache, blocks: BlockSizes) -> LayerPages:
        tokens = blocks.attention_tokens
        if kind == "sliding" and blocks.window_tokens is not None:
            tokens = blocks.window_tokens
        return LayerPages(
            kind=kind,
            block_tokens=tokens,
            content_bytes=tokens * cache.entry_bytes,
            geometry=cache.geometry,
            window_tokens=cache.whole(key),
        )

    return page


def _index_keys(cache: _Cache, blocks: BlockSizes) -> LayerPages:
    """Keys of an indexer: a latent of their own (models/deepseek_v2.py:658)."""
    ratio = cache.whole("compress_ratio")
    content = blocks.attention_tokens // ratio * cache.entry_bytes
    page = LayerPages(
        kind="mla",
        block_tokens=blocks.attention_tokens,
        content_bytes=content,
        geometry=(*cache.geometry, ratio),
    )
    return _aligned(page, blocks)


def _compressed(cache: _Cache, blocks: BlockSizes) -> LayerPages:
    """models/deepseek_v4/attention.py:863: one vector for compress_ratio tokens."""
    ratio = cache.whole("compress_ratio")
    page = LayerPages(
        kind="mla",
        block_tokens=blocks.attention_tokens,
        content_bytes=blocks.attention_tokens // ratio * cache.entry_bytes,
        geometry=(*cache.geometry, ratio),
    )
    return _aligned(page, blocks)


def _latent_window(cache: _Cache, blocks: BlockSizes) -> LayerPages:
    """v1/attention/backends/mla/sparse_swa.py:120."""
    page = LayerPages(
        kind="sliding_mla",
        block_tokens=_V4_WINDOW_TOKENS,
        content_bytes=_V4_WINDOW_TOKENS * cache.entry_bytes,
        geometry=cache.geometry,
        window_tokens=cache.whole("sliding_window"),
    )
    return _aligned(page, blocks)


def _compressor_state(cache: _Cache, blocks: BlockSizes) -> LayerPages:
    """models/deepseek_v4/compressor.py:179: a window of the tokens that are being compressed."""
    tokens = _STATE_TOKENS[cache.whole("compress_ratio")]
    page = LayerPages(
        kind="sliding_mla",
        block_tokens=tokens,
        content_bytes=tokens * cache.entry_bytes,
        geometry=cache.geometry,
        window_tokens=cache.kind.fixed_entries(),
    )
    return _aligned(page, blocks)


def _aligned(page: LayerPages, blocks: BlockSizes) -> LayerPages:
    size = ceil_div(page.content_bytes, blocks.alignment_bytes) * blocks.alignment_bytes
    return page if size == page.content_bytes else page.padded_to(size)


def _state(cache: _Cache, blocks: BlockSizes) -> LayerPages:
    """A state for each sequence (MambaSpec); drafts make the convolution's tail longer."""
    return LayerPages(
        kind="state",
        block_tokens=blocks.state_tokens,
        content_bytes=state_bytes(cache.kind, cache.slots, blocks.speculative_tokens),
        geometry=cache.geometry,
        padded_bytes=blocks.state_bytes,
        state_pages=blocks.state_pages,
        least_bytes=cache.entry_bytes,
        is_shared=False,
    )


def state_bytes(kind: CacheKind, slots: tuple[PackedSlot, ...], speculative_tokens: int) -> int:
    """Bytes of one recurrent state on a GPU: a tail of conv_kernel - 1 inputs, and one a draft."""
    total = 0
    for slot in slots:
        size = slot.bytes_per_entry
        if slot.role == "conv":
            tail = cast("int", getattr(kind, "conv_kernel")) - 1  # noqa: B009 - kinds with a tail
            size = size // tail * (tail + speculative_tokens)
        total += size
    return total


def _cross(cache: _Cache, blocks: BlockSizes) -> LayerPages:
    tokens = blocks.attention_tokens
    return LayerPages(
        kind="cross",
        block_tokens=tokens,
        content_bytes=tokens * cache.entry_bytes,
        geometry=cache.geometry,
        least_bytes=cache.kind.entries(1) * cache.entry_bytes,
    )


_PAGES: dict[str, Callable[[_Cache, BlockSizes], LayerPages] | None] = {
    "full_attention": _full("full"),
    "mla": _full("mla"),
    "sliding_window": _window("sliding", "sliding_window"),
    "sliding_mla": _window("sliding_mla", "sliding_window"),
    "chunked_local": _window("chunked", "attention_chunk_size"),
    "index_keys": _index_keys,
    "compressed_kv": _compressed,
    "latent_window": _latent_window,
    "compressor_state": _compressor_state,
    "cross_attention": _cross,
    "pool_tail": None,
}
