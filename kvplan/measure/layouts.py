"""The tensors that hold a footprint's caches, in the layouts that engines keep them in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

from kvplan.calc import Footprint, Line, PackedSlot
from kvplan.errors import RefusedError, UsageError
from kvplan.measure.names import CacheLayout
from kvplan.units import ceil_div

PAGE_TOKENS = 16  # vLLM 0.33.0's block_size where no backend asks for another
GROWTH_TOKENS = 8  # that the grown layout appends to its prompt, one by one
MOST_TENSORS = 100_000

PLAIN = {"bf16": ("bfloat16", 2), "fp16": ("float16", 2), "fp32": ("float32", 4)}
"""Formats that are a dtype of torch's: its name, and bytes of an element."""


@dataclass(frozen=True)
class CacheTensor:
    """One tensor to allocate; ``dtype`` is torch's name for it.

    ``grows`` where the third axis is one of tokens that a longer context makes longer.
    """

    shape: tuple[int, ...]
    dtype: str
    element_bytes: int
    grows: bool = False

    @property
    def size_bytes(self) -> int:
        """Bytes of its elements."""
        return prod(self.shape) * self.element_bytes

    def of_tokens(self, tokens: int) -> CacheTensor:
        """The same tensor with so many tokens on its third axis."""
        return replace(self, shape=(*self.shape[:2], tokens, *self.shape[3:]))


def cache_tensors(
    cache: Footprint, layout: CacheLayout, page_tokens: int = PAGE_TOKENS
) -> tuple[CacheTensor, ...]:
    """The tensors of this footprint, in the order in which an engine would allocate them.

    Shapes: ``[sequences, heads, entries, width]`` for each slot (``arithmetic``, ``grown``; of one
    sequence for ``sequences``), ``[pages, page_tokens, bytes of an entry]`` (``vllm``), bytes
    (``whole``). What is packed in less or more than whole elements is counted in bytes. Raises
    RefusedError where vLLM groups and pads unlike layers in ways that are not modelled here.
    """
    if not cache.total_bytes:
        raise UsageError(f"{cache.model} keeps no cache: there is nothing to allocate")
    if layout is CacheLayout.WHOLE:
        return (_raw((cache.total_bytes,)),)
    return tuple(_tensors(cache, layout, page_tokens))


def _tensors(cache: Footprint, layout: CacheLayout, page_tokens: int) -> Iterator[CacheTensor]:
    kept = [line for line in cache.lines if line.slots and line.entries]
    if layout is CacheLayout.VLLM:
        yield from _pages(cache, kept, page_tokens)
        return
    each = cache.sequences if layout is CacheLayout.SEQUENCES else 1
    count = each * sum(line.copies * len(line.slots) for line in kept)
    if count > MOST_TENSORS:
        raise UsageError(
            f"{count:,} tensors are more than the {MOST_TENSORS:,} that are tried",
            "ask for fewer --sequences, or for another --layout",
        )
    for line in kept:
        for _ in range(line.copies):
            for slot in line.slots:
                sequences = cache.sequences // each
                yield from [_slot_tensor(line, slot, sequences)] * each


def _slot_tensor(line: Line, slot: PackedSlot, sequences: int) -> CacheTensor:
    dtype, element_bytes = PLAIN.get(slot.format, ("uint8", 1))
    width = slot.packing.row_bytes(slot.width) // element_bytes
    shape = (sequences, slot.heads, line.entries, width)
    return CacheTensor(shape, dtype, element_bytes, grows=line.growth == 1)


def _pages(cache: Footprint, kept: list[Line], page_tokens: int) -> Iterator[CacheTensor]:
    """As vLLM 0.33.0 allocates them: raw bytes, one tensor a layer, pages outermost."""
    if len(kept) != 1 or kept[0].growth != 1:
        raise RefusedError(
            f"{cache.model}: vLLM groups and pads layers with unlike caches, which kvplan measure "
            "does not model",
            "--layout arithmetic allocates the bytes themselves",
        )
    line = kept[0]
    pages = cache.sequences * ceil_div(line.entries, page_tokens)
    tensor = _raw((pages, page_tokens, line.bytes_per_entry))
    yield from [tensor] * line.copies


def _raw(shape: tuple[int, ...]) -> CacheTensor:
    return CacheTensor(shape, "uint8", 1)


def planned_bytes(tensors: tuple[CacheTensor, ...]) -> int:
    """What the tensors of a layout hold together."""
    return sum(tensor.size_bytes for tensor in tensors)
