"""The tensors that hold a footprint's caches, in the layouts that engines keep them in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

from kvplan.calc import Footprint, Line, PackedCaches, PackedSlot, pack
from kvplan.dtypes import AS_ENGINES_DO
from kvplan.engines import engine_of
from kvplan.engines.base import Pool
from kvplan.engines.settings import ServerSettings
from kvplan.errors import RefusedError, UsageError
from kvplan.gpu import Gpu
from kvplan.measure.question import PAGE_TOKENS, CacheLayout, CacheQuestion
from kvplan.parallel import Layout
from kvplan.units import GIB, ceil_div, largest

GROWTH_TOKENS = 8  # that the grown layout appends to its prompt, one by one
MOST_TENSORS = 100_000

TORCH_DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
"""Formats that are a dtype of torch's, and its name for them."""


@dataclass(frozen=True)
class CacheTensor:
    """One tensor to allocate; ``dtype`` is torch's name for it.

    ``grows`` where the third axis is one of tokens that a longer context makes longer.
    """

    shape: tuple[int, ...]
    dtype: str = "uint8"
    element_bytes: int = 1
    grows: bool = False

    @property
    def size_bytes(self) -> int:
        """Bytes of its elements."""
        return prod(self.shape) * self.element_bytes

    def of_tokens(self, tokens: int) -> CacheTensor:
        """The same tensor with so many tokens on its third axis."""
        return replace(self, shape=(*self.shape[:2], tokens, *self.shape[3:]))

    def prompt(self) -> CacheTensor:
        """What the grown layout starts from."""
        return self.of_tokens(self.shape[2] - GROWTH_TOKENS) if self.grows else self


def cache_footprint(question: CacheQuestion) -> Footprint:
    """What the calculator says of these caches."""
    return _packed(question).footprint(
        question.context_tokens, question.sequences, question.tensor_parallel
    )


def _packed(question: CacheQuestion) -> PackedCaches:
    beside = question.beside or AS_ENGINES_DO
    caches = pack(question.spec, question.kv_cache_dtype, beside, draft=question.draft)
    if question.drafter is None:
        return caches
    return caches.beside(pack(question.drafter, question.draft_kv_cache_dtype, beside))


def cache_tensors(question: CacheQuestion, layout: CacheLayout) -> tuple[CacheTensor, ...]:
    """The tensors of these caches, in the order in which an engine would allocate them.

    Shapes: ``[sequences, heads, entries, width]`` for each slot (``arithmetic``; ``grown``, a few
    tokens longer; of one sequence for ``sequences``), ``[pages, page_tokens, bytes of an entry]``
    (``vllm``; ``[blocks, bytes of a block]`` of one pool where layers keep unlike caches), bytes
    (``whole``). What is packed in less or more than whole elements is counted in
    bytes. Raises UsageError where there is nothing to allocate or too much of it, RefusedError
    where vLLM does not serve the model, or how it pages a cache is not known.
    """
    growth = GROWTH_TOKENS if layout is CacheLayout.GROWN else 0
    cache = cache_footprint(question.at_context(question.context_tokens + growth))
    if not cache.total_bytes:
        raise UsageError(f"{cache.model} keeps no cache: there is nothing to allocate")
    if layout is CacheLayout.WHOLE:
        return (CacheTensor((cache.total_bytes,)),)
    lines = [line for line in cache.lines if line.slots and line.entries]
    if layout is CacheLayout.VLLM:
        if _are_alike(lines):
            return _page_tensors(cache, lines[0], question.page_tokens)
        return (_pool_tensor(question),)
    return tuple(_slot_tensors(cache, lines, apart=layout is CacheLayout.SEQUENCES))


def _slot_tensors(cache: Footprint, lines: list[Line], *, apart: bool) -> Iterator[CacheTensor]:
    """A tensor for each slot and layer; with ``apart``, one for each sequence."""
    copies = cache.sequences if apart else 1
    count = copies * sum(line.copies * len(line.slots) for line in lines)
    if count > MOST_TENSORS:
        raise UsageError(
            f"{count:,} tensors are more than the {MOST_TENSORS:,} that are tried",
            "ask for fewer --sequences, or for another --layout",
        )
    for line in lines:
        for _ in range(line.copies):
            for slot in line.slots:
                yield from [_slot_tensor(line, slot, cache.sequences // copies)] * copies


def _slot_tensor(line: Line, slot: PackedSlot, sequences: int) -> CacheTensor:
    dtype = TORCH_DTYPES.get(slot.format)
    element_bytes = slot.packing.bits // 8 if dtype else 1
    width = slot.packing.row_bytes(slot.width) // element_bytes
    shape = (sequences, slot.heads, line.entries, width)
    return CacheTensor(shape, dtype or "uint8", element_bytes, grows=line.growth == 1)


def _page_tensors(cache: Footprint, line: Line, page_tokens: int) -> tuple[CacheTensor, ...]:
    """Layers that are all alike, as vLLM sees them: raw bytes, a layer each, pages outermost."""
    pages = cache.sequences * ceil_div(line.entries, page_tokens)
    return (CacheTensor((pages, page_tokens, line.bytes_per_entry)),) * line.copies


def _are_alike(lines: list[Line]) -> bool:
    """Whether all layers keep the same cache, of every token."""
    return len(lines) == 1 and lines[0].growth == 1


def _pool_tensor(question: CacheQuestion) -> CacheTensor:
    """The pool of unlike layers: one allocation that all groups share, the null block with it.

    vLLM 0.33.0 v1/core/kv_cache_planning.py, _pool_bytes_per_block_from_builder.
    """
    pool = _pool(question)
    blocks = question.sequences * pool.pages(question.context_tokens) + pool.reserved_pages
    return CacheTensor((blocks, pool.stage_page_bytes[0]))


def _pool(question: CacheQuestion) -> Pool:
    settings = ServerSettings(
        engine="vllm",
        kv_cache_dtype=question.kv_cache_dtype,
        block_size=None if question.page_tokens == PAGE_TOKENS else question.page_tokens,
    )
    gpu = question.gpu or Gpu(name="h100", memory_bytes=80 * GIB, compute_capability="9.0")
    engine = engine_of(settings)
    caches = engine.caches(_packed(question), settings, gpu)
    pool = engine.pool(caches, Layout(question.tensor_parallel), settings, gpu)
    if pool is None:
        raise RefusedError(f"{question.spec.name} has no pages")
    return pool


def pool_limits(
    question: CacheQuestion, layout: CacheLayout, room_bytes: int
) -> tuple[int, int] | None:
    """The longest context and the most sequences of a pool that has so many bytes.

    None where the layout is no pool: then arithmetic says so.
    """
    lines = [line for line in cache_footprint(question).lines if line.slots and line.entries]
    if layout is not CacheLayout.VLLM or _are_alike(lines):
        return None
    pool = _pool(question)
    blocks = room_bytes // pool.stage_page_bytes[0] - pool.reserved_pages
    longest = largest(lambda tokens: question.sequences * pool.pages(tokens) <= blocks, 1 << 40)
    return longest, max(0, blocks) // pool.pages(question.context_tokens)


def planned_bytes(tensors: tuple[CacheTensor, ...]) -> int:
    """What the tensors of a layout hold together."""
    return sum(tensor.size_bytes for tensor in tensors)
