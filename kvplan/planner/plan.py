"""A plan: a model on GPUs in one layout, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import inf

from kvplan.calc import Footprint, PackedCaches
from kvplan.engines.base import Engine, Waste
from kvplan.gpu import Gpu
from kvplan.parallel import Layout
from kvplan.planner.budget import Budget, unlike
from kvplan.planner.estimate import Step
from kvplan.planner.limits import max_context
from kvplan.planner.served import Served
from kvplan.question import Question
from kvplan.spec import ModelSpec
from kvplan.units import ceil_div


@dataclass(frozen=True)
class Plan:
    """A model on GPUs in one layout: the budget of the fullest GPU and the limits it sets.

    ``context_tokens`` and ``sequences`` are what was asked for, or found. ``max_context_tokens``
    (for those sequences) and ``max_sequences`` (of that context) are None where memory does not
    bound them. ``step`` is the estimate of a decode step, None for what does not fit and where the
    GPU's bandwidth is not known; ``decode_read_bytes`` the least that any step reads, one stage
    after the other, ``decode_busiest_bytes`` by the stage that reads most.
    """

    served: Served
    question: Question
    engine: Engine
    caches: PackedCaches
    """The model's caches, and its drafter's beside them, before they are laid out."""
    least: PackedCaches
    """The same by arithmetic, where the engine keeps others than a model needs."""
    drafter: Served | None
    layout: Layout
    context_tokens: int
    sequences: int
    budgets: tuple[Budget, ...]
    """The budget of a GPU of each stage; ``budget`` is the fullest."""
    max_sequences: int | None
    max_concurrency: float
    """Sequences of this context that fit at once, as vLLM counts: with a fraction."""
    host_bytes_per_token: Fraction
    """What a token takes in the host's memory, where caches are offloaded to it."""
    step: Step | None
    decode_read_bytes: int
    decode_busiest_bytes: int

    @property
    def spec(self) -> ModelSpec:
        """The model as an engine holds it."""
        return self.served.spec

    @property
    def gpu(self) -> Gpu:
        """The GPU that it is planned for."""
        return self.question.gpu

    @cached_property
    def budget(self) -> Budget:
        """The fullest GPU."""
        return min(self.budgets, key=lambda budget: budget.free_bytes)

    @property
    def fullest_stage(self) -> int:
        """The pipeline stage whose GPUs are the fullest, counted from 0."""
        return next(i for i, budget in enumerate(self.budgets) if budget is self.budget)

    @property
    def page_count(self) -> int | None:
        """Pages of every GPU's pool: as many as the GPU with the fewest has room for.

        None without an engine's pages.
        """
        counts = [budget.page_count for budget in unlike(self.budgets)]
        known = [count for count in counts if count is not None]
        return min(known, default=None)

    @cached_property
    def waste(self) -> tuple[Waste, ...]:
        """What the fullest GPU's pages take beyond its caches, in lines that add up."""
        pages, cache = self.budget.pages, self.budget.cache
        if pages is None:
            return ()
        stage = self.fullest_stage
        lines = pages.pool.waste(stage, self.context_tokens, cache.sequences)
        named_bytes = sum(line.size_bytes for line in lines)
        kept = cache.total_bytes - self.least_cache.total_bytes
        ends = self.budget.pages_bytes - named_bytes
        return (
            Waste("kept uncompressed", kept, "the engine keeps other caches of this model"),
            *lines,
            Waste("ends of pages", ends, "tokens that fill no whole page"),
        )

    @cached_property
    def least_cache(self) -> Footprint:
        """The arithmetic of the fullest GPU's caches, or what an engine keeps if that is less."""
        layout, cache, stage = self.layout, self.budget.cache, self.fullest_stage
        if self.least is self.caches:
            return cache
        spec = self.least.spec
        cut = spec.stages(layout.pipeline, layout.partition)[stage] if layout.pipeline > 1 else None
        least = self.least.footprint(
            cache.context_tokens,
            cache.sequences,
            layout.tensor,
            layout.context,
            cut,
            last=stage == layout.pipeline - 1,
        )
        return min(cache, least, key=lambda footprint: footprint.total_bytes)

    @cached_property
    def max_context_tokens(self) -> int | None:
        """The longest context for the load's sequences, that the engine serves at all.

        None where neither memory nor the engine bounds it.
        """
        if self.waiting:
            return 0  # of no context do so many run at once
        held = max_context(self.budgets, ceil_div(self.sequences, self.layout.sequence_groups))
        served = self.engine.longest_context(self.spec)
        return min((tokens for tokens in (held, served) if tokens is not None), default=None)

    @property
    def fits(self) -> bool:
        """Whether weights and caches fit, all sequences run at once, and the engine starts."""
        return self.budget.fits and not self.waiting and not self.refusal

    @property
    def refusal(self) -> str:
        """Why the engine does not start although everything fits; nothing where it does.

        vLLM 0.33.0 config/compilation.py:1510: CUDA graphs need a block for the state of each of
        max_num_seqs sequences.
        """
        pages, most = self.budget.pages, self.question.max_num_seqs
        if pages is None or most is None or not pages.pool.state_pages:
            return ""
        if self.question.enforce_eager or most <= (self.page_count or 0):
            return ""
        return (
            f"max_num_seqs ({most}) exceeds available Mamba cache blocks ({self.page_count}): "
            "each decode sequence requires one"
        )

    @property
    def not_counted(self) -> tuple[str, ...]:
        """What of the weights could not be counted, the drafter's with it."""
        drafter = self.drafter.spec if self.drafter else None
        lacks = drafter.not_counted if drafter else ()
        return (*self.spec.not_counted, *(f"draft model: {part}" for part in lacks))

    @property
    def one_copy(self) -> Footprint:
        """One sequence of one copy of the whole model, its drafter's caches with it."""
        return self.caches.footprint(self.context_tokens)

    @property
    def stage_layers(self) -> tuple[int, ...]:
        """Layers of each pipeline stage."""
        return self.spec.stage_layers(self.layout.pipeline, self.layout.partition)

    @property
    def has_idle_ranks(self) -> bool:
        """Whether there are more data-parallel ranks than sequences, as far as these are given."""
        return has_idle_ranks(self.question, self.layout)

    @property
    def host_tokens(self) -> int | None:
        """Tokens of long sequences that the host's memory for caches holds.

        None where none of it is given, or nothing grows with a sequence.
        """
        given_bytes, token_bytes = self.question.kv_offloading_bytes, self.host_bytes_per_token
        return None if given_bytes is None or not token_bytes else int(given_bytes / token_bytes)

    @property
    def waiting(self) -> int:
        """Sequences that a cap of concurrency keeps waiting."""
        return waiting(self.question, self.layout, self.sequences)

    @property
    def missing_bytes(self) -> int:
        """What the fullest GPU lacks; 0 where everything fits."""
        return max(0, -self.budget.free_bytes)

    @property
    def tokens(self) -> int | None:
        """Tokens that all caches hold together in sequences of this context."""
        if self.max_concurrency == inf:
            return None
        printed = self.printed_tokens
        if printed is not None:
            return printed * self.layout.sequence_groups
        return int(self.max_concurrency * self.context_tokens)

    @property
    def printed_tokens(self) -> int | None:
        """What the engine prints of one group's pages, where this is not the concurrency's."""
        pools = [(budget.pages, budget.page_count) for budget in unlike(self.budgets)]
        printed = [pages.pool.printed_tokens(count or 0) for pages, count in pools if pages]
        known = [tokens for tokens in printed if tokens is not None]
        return min(known, default=None)

    @property
    def tokens_per_second(self) -> float | None:
        """Decoded tokens a second at this load, estimated."""
        return self.sequences / self.step.seconds if self.step else None

    @property
    def decode_floor_seconds(self) -> float | None:
        """The least time of a step, all sequences one token on: the busiest stage's reads."""
        bandwidth = self.gpu.bandwidth_bytes_per_s
        return None if bandwidth is None or not self.fits else self.decode_busiest_bytes / bandwidth

    @property
    def tokens_per_second_bound(self) -> float | None:
        """Decoded tokens a second that no server of this layout can exceed at this batch.

        None with a drafter, whose accepted tokens come on top.
        """
        floor = self.decode_floor_seconds
        return self.sequences / floor if floor and not self.drafter else None


def has_idle_ranks(question: Question, layout: Layout) -> bool:
    """Whether there are more data-parallel ranks than sequences, as far as these are given."""
    return layout.data > (question.sequences or layout.data)


def waiting(question: Question, layout: Layout, sequences: int) -> int:
    """Sequences beyond what the cap of concurrency lets run on all ranks."""
    most = question.max_num_seqs
    return 0 if most is None else max(0, sequences - most * layout.sequence_groups)
