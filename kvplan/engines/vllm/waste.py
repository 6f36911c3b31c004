"""What blocks take beyond the caches' own bytes, named: lines that add up with the tails of pages.

A block belongs to one group at a time and is as large as the largest group needs; vLLM counts for
every request what it may need at most (max_memory_usage_bytes).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

from kvplan.engines.base import Waste
from kvplan.engines.vllm.groups import Group, Groups
from kvplan.engines.vllm.layers import LOCAL, LayerPages, Load
from kvplan.units import plural


def waste(
    groups: Groups, ends: Sequence[int], stage: int, load: Load, sequences: int
) -> Iterator[Waste]:
    """The lines of a GPU of this stage, but for the null block and the tails of pages."""
    block_bytes = groups.block_bytes(ends)[stage]
    uneven = padding = in_flight = copies = encoder = 0
    for group in groups.groups:
        blocks = sequences * group.pages(load)
        layers = list(_on_stage(group, ends, stage))
        uneven += blocks * (block_bytes - sum(_size(pages, groups) for pages in layers))
        padding += blocks * sum(_size(pages, groups) - pages.content_bytes for pages in layers)
        in_flight += sequences * sum(_in_flight_bytes(pages, load) for pages in layers)
        encoder += sequences * sum(_encoder_bytes(pages, load) for pages in layers)
        copies += sum(_copies_bytes(pages, blocks, sequences) for pages in layers)
    yield Waste("unequal groups", uneven, _why_uneven(groups))
    yield Waste("page padding", padding, "pages of all layers are made one size")
    yield Waste(
        "tokens in flight",
        in_flight,
        f"windows keep what {plural(load.in_flight_tokens, 'token')} in flight may still read",
    )
    yield Waste(
        "encoder tokens",
        encoder,
        f"every input counts as the {plural(load.encoder_tokens, 'token')} of a whole step",
    )
    yield Waste("state copies", copies, "a sequence has more than one block for each state")


def _on_stage(group: Group, ends: Sequence[int], stage: int) -> Iterator[LayerPages]:
    for index, pages in group.layers:
        if min(bisect_right(ends, index), len(ends) - 1) == stage:
            yield pages


def _size(pages: LayerPages, groups: Groups) -> int:
    return pages.page_bytes if groups.packed else pages.stride


def _in_flight_bytes(pages: LayerPages, load: Load) -> int:
    """Of one sequence in one window: tokens beyond the window itself."""
    if pages.kind not in LOCAL:
        return 0
    window = pages.window_tokens or 0
    held = load.in_flight_tokens + load.retained_tokens + window
    held -= pages.kind != "chunked"
    tokens = min(held, load.context_tokens) - min(window, load.context_tokens)
    return max(0, tokens) * pages.content_bytes // pages.block_tokens


def _encoder_bytes(pages: LayerPages, load: Load) -> int:
    """Of one sequence: tokens of a step that are more than those of its encoder's input."""
    if pages.kind != "cross":
        return 0
    counted = load.encoder_tokens * pages.content_bytes // pages.block_tokens
    return max(0, counted - pages.least_bytes)


def _copies_bytes(pages: LayerPages, blocks: int, sequences: int) -> int:
    if pages.kind not in ("state", "ring"):
        return 0
    return blocks * pages.content_bytes - sequences * pages.least_bytes


def _why_uneven(groups: Groups) -> str:
    sizes = [len(group.layers) for group in groups.groups]
    if len(set(sizes)) == 1:
        return "a block is as large as the largest group's"
    fewest, most = min(sizes), max(sizes)
    return f"{len(sizes)} groups of {fewest} to {most} layers, in blocks as large as the largest"
