"""The one search: a question about a model in, the plan that answers it out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf

from kvplan.calc import Footprint, PackedCaches, pack
from kvplan.gpu import Gpu
from kvplan.parallel import Layout, check_layout
from kvplan.planner.budget import Budget, stage_budgets
from kvplan.planner.layouts import layouts
from kvplan.planner.weights import read_bytes
from kvplan.question import Question
from kvplan.spec import ModelSpec
from kvplan.units import ceil_div, largest

_MOST_TOKENS = 1 << 60
_GPU_COUNTS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 72, 96, 128, 144, 192, 256)


@dataclass(frozen=True)
class Plan:
    """A model on GPUs in one layout: the budget of the fullest GPU and the limits it sets.

    ``context_tokens`` and ``sequences`` are what was asked for, or found. ``max_context_tokens``
    (for those sequences) and ``max_sequences`` (of that context) are None where memory does not
    bound them. ``decode_read_bytes`` are read one stage after the other for a step,
    ``decode_busiest_bytes`` by the stage that reads most. What follows from them is a bound and no
    prediction: nothing but active weights and caches, read once at the GPU's full bandwidth; None
    where that is unknown.
    """

    spec: ModelSpec
    question: Question
    layout: Layout
    context_tokens: int
    sequences: int
    budget: Budget
    max_context_tokens: int | None
    max_sequences: int | None
    max_concurrency: float
    """Sequences of this context that fit at once, as vLLM counts: with a fraction."""
    decode_read_bytes: int
    decode_busiest_bytes: int

    @property
    def gpu(self) -> Gpu:
        """The GPU that it is planned for."""
        return self.question.gpu

    @property
    def fits(self) -> bool:
        """Whether weights and caches fit."""
        return self.budget.fits

    @property
    def missing_bytes(self) -> int:
        """What the fullest GPU lacks; 0 where everything fits."""
        return max(0, -self.budget.free_bytes)

    @property
    def tokens(self) -> int | None:
        """Tokens that all caches hold together in sequences of this context."""
        if self.max_concurrency == inf:
            return None
        return int(self.max_concurrency * self.context_tokens)

    @property
    def tokens_per_second_bound(self) -> float | None:
        """Decoded tokens a second that no server of this layout can exceed at this batch."""
        bandwidth = self.gpu.bandwidth_bytes_per_s
        if bandwidth is None or not self.decode_busiest_bytes:
            return None
        return self.sequences * bandwidth / self.decode_busiest_bytes

    @property
    def decode_floor_seconds(self) -> float | None:
        """The least time from one token of a sequence to its next."""
        bandwidth = self.gpu.bandwidth_bytes_per_s
        return None if bandwidth is None else self.decode_read_bytes / bandwidth


def solve(spec: ModelSpec, question: Question) -> Plan:
    """The plan that answers the question for this model of it.

    What is given is kept, the rest is found: without GPUs, the fewest that hold the load; without
    a context, the longest that fits, the model's native one at most; without sequences, as many
    as fit. Where nothing fits, the plan is of the layout that lacks least. Raises KvplanError for
    a layout that cannot be and for weights that are not known.
    """
    search = _Search(spec, question)
    layout = search.layout()
    plan = search.plan(layout)
    longest = plan.max_context_tokens
    if question.context_tokens is None and longest and (question.gpus or question.layout):
        native = spec.native_context_tokens or longest
        plan = search.plan(layout, context_tokens=min(longest, native))
    if question.sequences is None and plan.max_sequences:
        plan = search.plan(layout, plan.context_tokens, plan.max_sequences)
    return plan


def rank_layouts(spec: ModelSpec, question: Question) -> tuple[Plan, ...]:
    """A plan for every layout of the question's GPUs, the best first.

    Best is what fits and holds most sequences of this context; layouts with pipeline stages come
    after those without, since a token has to pass all stages one after the other. What does not
    fit comes last, by what it lacks.
    """
    search = _Search(spec, question)
    plans = [search.plan(layout) for layout in layouts(spec, question.gpus or 1)]
    return tuple(sorted(plans, key=_rank))


def _rank(plan: Plan) -> tuple[bool, int, bool, float]:
    return (not plan.fits, plan.missing_bytes, plan.layout.pipeline > 1, -plan.max_concurrency)


class _Search:
    """One model under one question, its caches packed once for all layouts."""

    def __init__(self, spec: ModelSpec, question: Question) -> None:
        self.spec = spec
        self.question = question
        self.caches: PackedCaches = pack(spec, question.kv_cache_dtype, draft=question.draft)
        self.context_tokens = question.context_tokens or spec.native_context_tokens or 1
        self.sequences = question.sequences or 1

    def layout(self) -> Layout:
        """The layout asked for, else the best of the GPUs asked for, else of the fewest."""
        if self.question.layout is not None:
            return self.question.layout
        counts = (self.question.gpus,) if self.question.gpus else self._gpu_counts()
        nearest: tuple[int, Layout] | None = None
        for gpus in counts:
            fitting = []
            for layout in layouts(self.spec, gpus):
                budgets = self.budgets(layout)
                free_bytes = min(budget.free_bytes for budget in budgets)
                if free_bytes >= 0:
                    fitting.append((layout.pipeline > 1, -_concurrency(budgets, layout), layout))
                elif nearest is None or free_bytes > nearest[0]:
                    nearest = free_bytes, layout
            if fitting:
                return min(fitting, key=lambda entry: entry[:2])[2]
        return nearest[1] if nearest else Layout()

    def _gpu_counts(self) -> Iterator[int]:
        """Counts of GPUs to try; those that cannot even hold the weights are passed over."""
        weights_bytes = self.spec.weights_bytes or 0
        for gpus in _GPU_COUNTS:
            if gpus * self.question.gpu.memory_bytes >= weights_bytes or gpus == _GPU_COUNTS[-1]:
                yield gpus

    def budgets(
        self, layout: Layout, context_tokens: int | None = None, sequences: int | None = None
    ) -> tuple[Budget, ...]:
        """The budget of each stage of a layout, at the load of the question or another."""
        tokens, load = context_tokens or self.context_tokens, sequences or self.sequences
        return stage_budgets(self.caches, self.question, layout, tokens, load)

    def plan(
        self, layout: Layout, context_tokens: int | None = None, sequences: int | None = None
    ) -> Plan:
        """The model in this layout: what fits, how long a context, how many sequences."""
        check_layout(self.spec, layout)
        tokens, load = context_tokens or self.context_tokens, sequences or self.sequences
        budgets = self.budgets(layout, tokens, load)
        read = [
            read_bytes(self.spec, budget.weights) + _cache_read_bytes(budget.cache)
            for budget in budgets
        ]
        return Plan(
            spec=self.spec,
            question=self.question,
            layout=layout,
            context_tokens=tokens,
            sequences=load,
            budget=min(budgets, key=lambda budget: budget.free_bytes),
            max_context_tokens=_max_context(budgets, ceil_div(load, layout.sequence_groups)),
            max_sequences=_max_sequences(budgets, layout),
            max_concurrency=_concurrency(budgets, layout),
            decode_read_bytes=sum(read),
            decode_busiest_bytes=max(read),
        )


def _max_context(budgets: tuple[Budget, ...], sequences: int) -> int | None:
    """The longest context of so many sequences in each group; None for any."""
    return _most(
        lambda tokens: all(
            sequences * budget.cache.bytes_per_sequence_at(tokens) <= budget.room_bytes
            for budget in budgets
        )
    )


def _most(holds: Callable[[int], bool]) -> int | None:
    """The largest number that holds, found by squaring and halving; None for any number."""
    high = 2
    while holds(high):
        if high >= _MOST_TOKENS:
            return None
        high = min(high * high, _MOST_TOKENS)
    return largest(holds, high - 1)


def _max_sequences(budgets: tuple[Budget, ...], layout: Layout) -> int | None:
    """Whole sequences that every group holds at once; None for any number."""
    if any(budget.room_bytes < 0 for budget in budgets):
        return 0
    in_stage = [
        budget.room_bytes // budget.cache.bytes_per_sequence
        for budget in budgets
        if budget.cache.bytes_per_sequence
    ]
    return min(in_stage) * layout.sequence_groups if in_stage else None


def _concurrency(budgets: tuple[Budget, ...], layout: Layout) -> float:
    """Sequences that fit at once, with a fraction; infinite where they keep nothing."""
    in_stage = (
        max(0, budget.room_bytes) / budget.cache.bytes_per_sequence
        for budget in budgets
        if budget.cache.bytes_per_sequence
    )
    return min(in_stage, default=inf) * layout.sequence_groups


def _cache_read_bytes(cache: Footprint) -> int:
    """Cache bytes that a decode step reads, at the least.

    Where an indexer chooses what attention reads, only the indexer's own keys are counted.
    """
    sparse = any(slot.role == "index_key" for line in cache.lines for slot in line.slots)
    chosen = {"latent", "shared_kv", "key"} if sparse else set()
    read = (
        line.bytes_per_sequence
        for line in cache.lines
        if not (line.growth and chosen & {slot.role for slot in line.slots})
    )
    return cache.sequences * sum(read)
