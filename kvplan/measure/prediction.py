"""What the counters will show for a layout, said before anything is allocated."""

from __future__ import annotations

from dataclasses import dataclass

from kvplan.measure.allocator import Allocator, Block
from kvplan.measure.layouts import GROWTH_TOKENS, CacheTensor
from kvplan.measure.question import CacheLayout


@dataclass(frozen=True)
class Prediction:
    """Bytes that torch will count and take from the device, by the allocator's rules.

    ``peak_bytes`` is the most that it takes on the way.
    """

    allocated_bytes: int
    reserved_bytes: int
    peak_bytes: int


def prediction(
    tensors: tuple[CacheTensor, ...],
    layout: CacheLayout,
    *,
    expandable: bool = False,
    capacity_bytes: int | None = None,
) -> Prediction:
    """The counters once these tensors lie in this layout, on a device of that capacity.

    Raises OutOfMemoryError where it is not enough.
    """
    books = Allocator(expandable, capacity_bytes)
    if layout is CacheLayout.GROWN:
        _grow(books, tensors)
    else:
        for tensor in tensors:
            books.take(tensor.size_bytes)
    return Prediction(books.allocated_bytes, books.reserved_bytes, books.peak_reserved_bytes)


def _grow(books: Allocator, tensors: tuple[CacheTensor, ...]) -> None:
    """The requests of ``device.caches.allocate``, one for one."""
    blocks: list[Block] = [books.take(tensor.prompt().size_bytes) for tensor in tensors]
    for missing in range(GROWTH_TOKENS - 1, -1, -1):
        for index, tensor in enumerate(tensors):
            if tensor.grows:
                new = books.take(tensor.of_tokens(1).size_bytes)
                longer = books.take(tensor.of_tokens(tensor.shape[2] - missing).size_bytes)
                books.give_back(blocks[index])
                books.give_back(new)
                blocks[index] = longer
