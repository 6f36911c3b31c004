"""Memory of one GPU laid out as a budget.

The fullest GPU decides: the pipeline stage whose weights and caches take most. A budget is
monotone in context and sequences, so limits are found by search over the same arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from kvplan.calc import Footprint, PackedCaches
from kvplan.engines.base import MemoryLine, Pool, total
from kvplan.gpu import Gpu
from kvplan.parallel import Layout
from kvplan.planner.loaded import LoadedStage
from kvplan.planner.lora import LoraSlots
from kvplan.question import Question
from kvplan.units import ceil_div
from kvplan.weights import WeightsLine

Figure = TypeVar("Figure")

PROCESS_BYTES = 765 << 20  # CUDA context, kernels, cuBLAS: measured on an H100, torch 2.11
ACTIVATION_SHARE = 0.02  # activations and CUDA graphs: H100 logs of vLLM leave 1.5 GiB of 80
IMAGE_BYTES = 2 << 30
"""What an engine sets aside for a vision tower when it starts with the largest images it may get.

A 7B Qwen2.5-VL on 24 GB left 0.13 GiB of caches where its weights and the above leave 2.1
(github.com/allenai/olmocr/issues/269).
"""


@dataclass(frozen=True)
class Pages:
    """An engine's pages on one GPU: ``page_bytes`` each, ``sequence_pages`` for one sequence."""

    pool: Pool
    page_bytes: int
    sequence_pages: int

    def size_bytes(self, sequences: int) -> int:
        """So many sequences of the budget's context, and what the pool keeps back."""
        pages = sequences * self.sequence_pages + self.pool.reserved_pages
        return pages * self.page_bytes

    def context_bytes(self, context_tokens: int, sequences: int) -> int:
        """The same of another context."""
        pages = sequences * self.pool.pages(context_tokens) + self.pool.reserved_pages
        return pages * self.page_bytes


@dataclass(frozen=True)
class Budget:
    """One GPU, the fullest of its layout; all sizes in bytes.

    ``room_bytes`` is what is left for caches, ``cache`` the arithmetic of what one sequence group's
    caches are on this GPU, and ``pages`` how an engine pages them; None where the arithmetic is
    the answer.
    """

    memory_bytes: int
    allowed_bytes: int
    overhead_bytes: int
    overhead_basis: str
    weights: tuple[WeightsLine, ...]
    cache: Footprint
    room_bytes: int
    room_is_given: bool = False
    pages: Pages | None = None
    excess_bytes: int = 0
    """What weights, overhead and a room that is given are more than the GPU's memory."""
    image_bytes: int = 0
    """What of the overhead is for the images that a vision tower is tried with."""
    overhead_lines: tuple[MemoryLine, ...] = ()
    """What an engine sets aside, where it is the engine that says so."""
    draft_weights: tuple[WeightsLine, ...] = ()
    """Of a draft model beside the model, where this GPU has them."""
    lora: LoraSlots | None = None

    @property
    def weights_bytes(self) -> int:
        """All parts of the model's weights on this GPU."""
        return sum(line.size_bytes for line in self.weights)

    @property
    def draft_weights_bytes(self) -> int:
        """All parts of the draft model's weights on this GPU."""
        return sum(line.size_bytes for line in self.draft_weights)

    @property
    def lora_bytes(self) -> int:
        """Slots for LoRA adapters."""
        return self.lora.size_bytes if self.lora else 0

    @property
    def growing_bytes(self) -> int:
        """The model's caches that grow with context."""
        return self.cache.own.total_bytes - self.fixed_bytes

    @property
    def fixed_bytes(self) -> int:
        """Its windows, recurrent states and cross-attention, at what this context fills of them."""
        bounded = (line.bytes_per_sequence for line in self.cache.own.lines if not line.growth)
        return self.cache.sequences * sum(bounded)

    @property
    def draft_cache_bytes(self) -> int:
        """The draft model's caches."""
        return self.cache.of_drafter.total_bytes

    @property
    def kv_bytes(self) -> int:
        """What the caches take, an engine's pages with them."""
        if self.pages is None:
            return self.cache.total_bytes
        return self.pages.size_bytes(self.cache.sequences)

    @property
    def pages_bytes(self) -> int:
        """What an engine's pages take beyond the caches' own bytes."""
        return self.kv_bytes - self.cache.total_bytes

    @property
    def page_count(self) -> int | None:
        """Pages that this GPU has room for; None without pages."""
        if self.pages is None or not self.pages.page_bytes:
            return None
        return max(0, self.room_bytes) // self.pages.page_bytes

    @property
    def free_bytes(self) -> int:
        """What is left when everything is in; negative by what is missing."""
        if self.excess_bytes:
            return -self.excess_bytes  # the caches would lie in the room that is not there
        return self.room_bytes - self.kv_bytes

    def kv_bytes_at(self, context_tokens: int, sequences: int) -> int:
        """What so many sequences of another context would take."""
        if self.pages is None:
            return sequences * self.cache.bytes_per_sequence_at(context_tokens)
        return self.pages.context_bytes(context_tokens, sequences)

    @property
    def taken_bytes(self) -> int:
        """What weights, overhead and a given room come to; without one, what is not for caches."""
        return self.allowed_bytes - (-self.excess_bytes or self.room_bytes)

    @property
    def room_range(self) -> tuple[int, int]:
        """The least and the most that may be left for caches, by the overhead's range."""
        if self.room_is_given or not self.overhead_lines:
            return self.room_bytes, self.room_bytes
        size_bytes, low_bytes, high_bytes = total(self.overhead_lines)
        return self.room_bytes - high_bytes + size_bytes, self.room_bytes - low_bytes + size_bytes

    @property
    def has_room(self) -> bool:
        """Whether anything is left for caches at all."""
        return self.room_bytes > 0 and not self.excess_bytes

    @property
    def fits(self) -> bool:
        """Whether weights and caches stay within what is allowed."""
        return self.free_bytes >= 0


def overhead(gpu: Gpu, question: Question) -> tuple[int, str]:
    """Bytes that are neither weights nor caches, without a tower's images; that figure's basis."""
    if question.overhead_bytes is not None:
        return question.overhead_bytes, "measured"
    process_bytes = gpu.process_bytes or PROCESS_BYTES
    return process_bytes + int(gpu.memory_bytes * ACTIVATION_SHARE), "assumed"


@dataclass(frozen=True)
class _Overhead:
    """What is neither weights nor caches: by an engine's lines, as measured, or by estimate."""

    size_bytes: int
    basis: str
    image_bytes: int = 0
    lines: tuple[MemoryLine, ...] = ()


def _overhead(
    caches: PackedCaches,
    question: Question,
    layout: Layout,
    loaded: LoadedStage,
    context_tokens: int,
) -> _Overhead:
    gpu, engine = question.gpu, question.accounting
    if question.overhead_bytes is None:
        lines = engine.startup(caches.spec, layout, loaded.own, question, gpu, context_tokens)
        if lines:
            return _Overhead(total(lines)[0], "assumed", 0, lines)
    size_bytes, basis = overhead(gpu, question)
    image_bytes = IMAGE_BYTES if loaded.sees and basis == "assumed" else 0
    return _Overhead(size_bytes + image_bytes, basis, image_bytes)


@dataclass(frozen=True)
class Server:
    """A layout before its first sequence: what is loaded, and how an engine pages the caches."""

    stages: tuple[LoadedStage, ...]
    pool: Pool | None


def stage_budgets(
    caches: PackedCaches,
    question: Question,
    layout: Layout,
    server: Server,
    context_tokens: int,
    sequences: int,
) -> tuple[Budget, ...]:
    """The budget of a GPU of each pipeline stage, for a model whose caches are packed already.

    A sequence group takes its share of the sequences, rounded up.
    """
    stages, pool = server.stages, server.pool
    in_group = ceil_div(sequences, layout.sequence_groups)
    sizes = (0,) * len(stages) if pool is None else pool.stage_page_bytes
    in_sequence = 0 if pool is None else pool.pages(context_tokens)
    keys = [(id(loaded), size) for loaded, size in zip(stages, sizes, strict=True)]
    budgets: dict[tuple[int, int], Budget] = {}
    for loaded, key in zip(stages, keys, strict=True):
        if key in budgets:
            continue
        cache = caches.footprint(
            context_tokens,
            in_group,
            layout.tensor,
            layout.context,
            loaded.stage,
            last=loaded.is_last,
        )
        pages = Pages(pool, key[1], in_sequence) if pool else None
        extra = _overhead(caches, question, layout, loaded, context_tokens)
        budgets[key] = _budget(question, loaded, cache, pages, extra)
    return tuple(budgets[key] for key in keys)


def unlike(budgets: Iterable[Budget]) -> list[Budget]:
    """The budgets without repetition: stages that hold the same are one object."""
    return list({id(budget): budget for budget in budgets}.values())


def by_stage(figure: Callable[[Budget], Figure], budgets: Iterable[Budget]) -> list[Figure]:
    """A figure of each stage, worked out once for those that hold the same."""
    stages = tuple(budgets)
    figures = {id(budget): figure(budget) for budget in unlike(stages)}
    return [figures[id(budget)] for budget in stages]


def _budget(
    question: Question,
    loaded: LoadedStage,
    cache: Footprint,
    pages: Pages | None,
    extra: _Overhead,
) -> Budget:
    memory_bytes = question.gpu.memory_bytes
    given_bytes = _given_bytes(question, pages)
    taken_bytes = extra.size_bytes + loaded.size_bytes
    allowed = question.accounting.allowed_bytes(question.gpu, question.gpu_memory_utilization)
    if given_bytes is not None:
        allowed = min(memory_bytes, taken_bytes + given_bytes)
    return Budget(
        memory_bytes=memory_bytes,
        allowed_bytes=allowed,
        overhead_bytes=extra.size_bytes,
        image_bytes=extra.image_bytes,
        overhead_basis=extra.basis,
        overhead_lines=extra.lines,
        weights=loaded.weights,
        cache=cache,
        room_bytes=allowed - taken_bytes if given_bytes is None else given_bytes,
        room_is_given=given_bytes is not None,
        pages=pages,
        excess_bytes=0 if given_bytes is None else taken_bytes + given_bytes - allowed,
        draft_weights=loaded.draft_weights,
        lora=loaded.lora,
    )


def _given_bytes(question: Question, pages: Pages | None) -> int | None:
    """The caches' room where it is given outright, in place of utilisation.

    As a number of pages (vLLM's num_gpu_blocks_override) or of bytes; an engine takes it whole or
    does not start.
    """
    if pages is not None and question.num_gpu_blocks_override is not None:
        return question.num_gpu_blocks_override * pages.page_bytes
    return question.kv_cache_memory_bytes
