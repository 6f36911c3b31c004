"""The one search: a question about a model in, the plan that answers it out.

Fewest is fewest over eligible layouts (``layouts.servers``): each server's capacity says how many
replicas the load needs, and the smallest count of GPUs wins. Of the layouts with that count the
one with the highest estimated decode throughput is chosen, then the one that holds most.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from math import inf

from kvplan.calc import PackedCaches
from kvplan.parallel import Layout, redundant_experts
from kvplan.planner.budget import Budget, Server, by_stage, stage_budgets, unlike
from kvplan.planner.drafter import check_drafter, packed_caches, serve_drafter, suits_drafter
from kvplan.planner.estimate import estimate, least_read_bytes
from kvplan.planner.host import host_bytes_per_token
from kvplan.planner.layouts import (
    IDLE,
    LARGEST_GPUS,
    PIPELINE,
    UNASKED,
    Unasked,
    fewest_gpus,
    layouts,
    servers,
)
from kvplan.planner.limits import concurrency, max_sequences
from kvplan.planner.loaded import loaded_stages
from kvplan.planner.plan import Plan, has_idle_ranks
from kvplan.planner.served import serve
from kvplan.question import Question
from kvplan.spec import ModelSpec
from kvplan.units import ceil_div

SHORT_CONTEXT = 8_192
"""What one sequence is to have room for at the least where no context is given."""

_LOADED = 0.95
"""Of the stored weights an engine loads more than this: it drops orders and zero points."""
_TOWERS = ("vision", "audio")
"""Parts that a server may leave out."""


def solve(spec: ModelSpec, question: Question) -> Plan:
    """The plan that answers the question for this model of it.

    What is given is kept, the rest is found: without GPUs, the fewest that hold the load; without
    a context, room for 8,192 tokens (or the native context, where that is less) decides the GPUs,
    and the context is the longest that these hold, the native one at most; without sequences, as
    many as fit. Where nothing fits, the plan is of the layout that lacks least. Raises KvplanError
    for a layout that cannot be and for weights that are not known.
    """
    search = Search(spec, question)
    layout = search.layout()
    plan = search.plan(layout)
    longest, native = plan.max_context_tokens, search.native_context_tokens
    if question.context_tokens is None and longest != 0:
        bounds = [tokens for tokens in (longest, native) if tokens is not None]
        plan = search.plan(layout, context_tokens=min(bounds, default=None))
    if question.sequences is None and plan.max_sequences:
        plan = search.plan(layout, plan.context_tokens, plan.max_sequences)
    return plan


def solve_native(spec: ModelSpec, question: Question) -> Plan | None:
    """The plan for the model's native context, where the question leaves context and GPUs open."""
    native = question.accounting.native_context(spec)
    if native is None or question.context_tokens or question.gpus or question.layout:
        return None
    return solve(spec, replace(question, context_tokens=native, sequences=question.sequences or 1))


def rank_layouts(spec: ModelSpec, question: Question) -> tuple[Plan, ...]:
    """A plan for every layout of the question's GPUs, the one that the search would choose first.

    Those that it would not choose (tensor parallelism across link domains, pipeline stages, decode
    context parallelism, experts that do not divide evenly) come after those that it would, by
    estimate; what does not fit comes last, by what it lacks.
    """
    search = Search(spec, question)
    plans = [search.plan(layout) for layout in search.layouts(question.gpus or 1)]
    return tuple(sorted(plans, key=search.rank))


class Search:
    """One model under one question, its caches packed once for all layouts."""

    def __init__(self, spec: ModelSpec, question: Question) -> None:
        capability = question.gpu.compute_capability
        self.engine = question.accounting
        self.served = serve(spec, question.dtype, question.quantization, capability)
        self.spec = self.served.spec
        self.question = question
        self.drafter = serve_drafter(question, self.spec)
        self.least: PackedCaches = packed_caches(self.spec, question, self.drafter)
        """The caches by arithmetic."""
        self.caches: PackedCaches = self.engine.caches(self.least, question, question.gpu)
        """Those that the engine keeps."""
        self.native_context_tokens = self.engine.native_context(spec)
        if question.context_tokens is not None:
            self.engine.check_context(spec, question.context_tokens)
        short = min(SHORT_CONTEXT, self.native_context_tokens or SHORT_CONTEXT)
        self.context_tokens = question.context_tokens or short
        self.sequences = question.sequences or 1
        loaded = self.spec.loaded_bytes.items()
        self._least_bytes = int(_LOADED * sum(size for part, size in loaded if part not in _TOWERS))
        """Less than a server of any layout has of the weights."""
        self._servers: dict[Layout, Server] = {}
        self._free_bytes: dict[Layout, int] = {}
        """What each server that was tried has left on its fullest GPU, with one sequence."""

    def layouts(self, gpus: int) -> list[Layout]:
        """Every layout of exactly so many GPUs, of the model and its drafter.

        Raises RefusedError where the engine takes none, with its reason.
        """
        possible = list(filter(self._suits_drafter, layouts(self.spec, gpus, self.check)))
        if not possible:
            self.check(self.spec, Layout())
        return possible

    def servers(self, unasked: Unasked | None) -> Iterator[Layout]:
        """The eligible layouts of one server, of the model and its drafter."""
        eligible = servers(self.spec, self.question.gpu, unasked, self.check)
        return filter(self._suits_drafter, eligible)

    def check(self, spec: ModelSpec, layout: Layout) -> None:
        """Raises KvplanError for a layout that cannot be, or that the engine does not take."""
        self.engine.check(spec, layout, self.question, self.question.gpu)

    def _suits_drafter(self, layout: Layout) -> bool:
        return self.drafter is None or suits_drafter(self.drafter.spec, layout)

    def layout(self) -> Layout:
        """The layout asked for, else the best of the GPUs asked for, else of the fewest."""
        if self.question.layout is not None:
            return self.question.layout.of(self.spec)
        if self.question.gpus is not None:
            plans = map(self.at_load, self.layouts(self.question.gpus))
            return min(plans, key=self.rank).layout
        options = next(filter(None, map(self.options, (None, *UNASKED))), [])
        if not options:
            return self._nearest()
        if self.question.sequences is None:
            return min(map(self.at_load, options), key=self.rank).layout
        return min(options, key=self._preference) if len(options) > 1 else options[0]

    def at_load(self, layout: Layout) -> Plan:
        """The layout with the sequences asked for, or with as many as it holds."""
        plan = self.plan(layout)
        if self.question.sequences is None and plan.max_sequences:
            return self.plan(layout, plan.context_tokens, plan.max_sequences)
        return plan

    def _preference(self, layout: Layout) -> tuple[int, float, float, bool]:
        """As ``rank``, of an eligible layout that fits, without its limits."""
        budgets = self.budgets(layout, self.context_tokens, self.sequences)
        step = estimate(self.spec, self.question.gpu, layout, budgets, self.sequences)
        held = concurrency(budgets) * layout.sequence_groups
        return layout.pipeline, step.seconds if step else 0.0, -held, _is_unusual(layout)

    def options(self, unasked: Unasked | None = None) -> list[Layout]:
        """Every eligible layout with the fewest GPUs that hold the load; empty where none does.

        ``unasked`` are the layouts that need this, which is not chosen where others do.
        """
        options: list[Layout] = []
        fewest = LARGEST_GPUS
        domain = self.question.gpu.link_domain
        for server in self.servers(unasked):
            if server.server_gpus > fewest:
                break
            if has_idle_ranks(self.question, server) is not (unasked == IDLE):
                continue
            replicas = self._replicas(server)
            if replicas is None:
                continue
            gpus = fewest_gpus(server, replicas, domain)
            if gpus < fewest or (gpus == fewest and not options):
                fewest, options = gpus, []
            if gpus == fewest:
                options.append(replace(server, replicas=gpus // server.server_gpus))
        return options

    def _replicas(self, server: Layout) -> int | None:
        """Copies of a server that hold the load; None where one cannot hold a sequence."""
        if self._least_bytes > server.server_gpus * self.question.gpu.memory_bytes:
            return None  # not even all its memory together holds the weights
        budgets = self.budgets(server, self.context_tokens, 1)
        self._free_bytes[server] = _least_free(budgets)
        in_group = max_sequences(budgets) if self._free_bytes[server] >= 0 else 0
        most = min((inf if in_group is None else in_group), self.question.max_num_seqs or inf)
        if most < 1:
            return None
        groups = 1 if most == inf else ceil_div(self.sequences, int(most))
        return ceil_div(groups, server.data)

    def _nearest(self) -> Layout:
        """The eligible layout of one server that lacks least, where none holds a sequence.

        Raises RefusedError where the engine takes none, with its reason.
        """
        eligible = list(chain.from_iterable(map(self.servers, (None, PIPELINE))))
        if not eligible:
            self.check(self.spec, Layout())
        return max(eligible, key=lambda server: (self._free(server), -server.server_gpus))

    def _free(self, server: Layout) -> int:
        if server not in self._free_bytes:
            budgets = self.budgets(server, self.context_tokens, 1)
            self._free_bytes[server] = _least_free(budgets)
        return self._free_bytes[server]

    def rank(self, plan: Plan) -> tuple[bool | int | float, ...]:
        """How plans of one count of GPUs are sorted: the least is chosen.

        What does not fit comes last; what the search would not choose after what it would: tensor
        parallelism across link domains, context parallelism, idle ranks, experts that do not divide
        evenly, pipeline stages.
        """
        layout = plan.layout
        return (
            not plan.fits,
            plan.missing_bytes,
            plan.waiting,
            layout.tensor > plan.gpu.link_domain,
            layout.context > 1,
            plan.has_idle_ranks,
            redundant_experts(self.spec, layout) > 0,
            layout.pipeline,
            -(plan.tokens_per_second or 0.0),
            -plan.max_concurrency,
            _is_unusual(layout),
        )

    def budgets(self, layout: Layout, context_tokens: int, sequences: int) -> tuple[Budget, ...]:
        """The budget of each stage of a layout at this load."""
        server = self._server(replace(layout, replicas=1))
        return stage_budgets(self.caches, self.question, layout, server, context_tokens, sequences)

    def _server(self, layout: Layout) -> Server:
        """Raises KvplanError as ``loaded_stages`` and ``Engine.pool`` do."""
        if layout not in self._servers:
            asked = self.question
            pool = self.engine.pool(self.caches, layout, asked, asked.gpu)
            stages = loaded_stages(self.caches, asked, layout)
            self._servers[layout] = Server(stages, pool)
        return self._servers[layout]

    def plan(
        self, layout: Layout, context_tokens: int | None = None, sequences: int | None = None
    ) -> Plan:
        """The model in this layout: what fits, how long a context, how many sequences."""
        self.check(self.spec, layout)
        if self.drafter is not None:
            check_drafter(self.drafter.spec, layout)
        tokens, load = context_tokens or self.context_tokens, sequences or self.sequences
        budgets = self.budgets(layout, tokens, load)
        read = by_stage(lambda budget: least_read_bytes(self.spec, budget), budgets)
        fits = all(budget.fits for budget in unlike(budgets))
        gpu = self.question.gpu
        return Plan(
            served=self.served,
            question=self.question,
            engine=self.engine,
            caches=self.caches,
            least=self.least,
            drafter=self.drafter,
            layout=layout,
            context_tokens=tokens,
            sequences=load,
            budgets=budgets,
            max_sequences=self._max_sequences(budgets, layout),
            max_concurrency=concurrency(budgets) * layout.sequence_groups,
            host_bytes_per_token=host_bytes_per_token(budgets, layout),
            step=estimate(self.spec, gpu, layout, budgets, load) if fits else None,
            decode_read_bytes=sum(read),
            decode_busiest_bytes=max(read),
        )

    def _max_sequences(self, budgets: tuple[Budget, ...], layout: Layout) -> int | None:
        in_group, most = max_sequences(budgets), self.question.max_num_seqs
        limits = [limit for limit in (in_group, most) if limit is not None]
        return min(limits) * layout.sequence_groups if limits else None


def _least_free(budgets: tuple[Budget, ...]) -> int:
    return min(budget.free_bytes for budget in unlike(budgets))


def _is_unusual(layout: Layout) -> bool:
    """Between equals, ranks that share experts have whole ones, as in vLLM's recipes."""
    return layout.expert_parallel is not (layout.data > 1)
