"""Memory of one GPU laid out as a budget, and what fits in it.

The fullest GPU decides: the pipeline stage whose weights and caches take most. A budget is
monotone in context and sequences, so limits are found by search over the same arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import inf

from kvplan.calc import Footprint, footprint
from kvplan.errors import RefusedError, UsageError
from kvplan.fit import Workload, tensor_parallel_sizes
from kvplan.parallel import Layout
from kvplan.spec import Gpu, ModelSpec
from kvplan.units import ceil_div, largest
from kvplan.weights import WeightsLine, read_bytes, weights_on_rank

DEFAULT_UTILIZATION = 0.92  # vLLM 0.33.0's gpu_memory_utilization
_PROCESS_BYTES = 765 << 20  # CUDA context, kernels, cuBLAS: measured on an H100, torch 2.11
_ACTIVATION_SHARE = 0.02  # activations and CUDA graphs: H100 logs of vLLM leave 1.5 GiB of 80
_MOST = 1 << 60
_COPIES_TRIED = (1, 2, 4, 8, 16, 24, 32, 48, 64, 72, 96, 128, 144, 192, 256)


class NothingFitsError(UsageError):
    """No layout that was tried holds the workload."""


@dataclass(frozen=True)
class Settings:
    """What the server is told: how much of each GPU it may use and what it needs besides.

    ``overhead_bytes`` is what activations, CUDA graphs and the process itself take (None: an
    estimate); ``kv_cache_memory_bytes`` gives the caches' room outright, as vLLM's option does.
    """

    utilization: float = DEFAULT_UTILIZATION
    overhead_bytes: int | None = None
    kv_cache_memory_bytes: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.utilization <= 1:
            raise UsageError(
                f"gpu_memory_utilization has to be more than 0 and at most 1, "
                f"not {self.utilization}"
            )


@dataclass(frozen=True)
class Budget:
    """One GPU, the fullest of its layout; all sizes in bytes.

    ``room_bytes`` is what is left for caches, ``cache`` what one sequence group's caches take of
    it on this GPU.
    """

    memory_bytes: int
    allowed_bytes: int
    overhead_bytes: int
    overhead_basis: str
    weights: tuple[WeightsLine, ...]
    cache: Footprint
    room_bytes: int
    room_is_given: bool = False

    @property
    def weights_bytes(self) -> int:
        """All parts of the weights on this GPU."""
        return sum(line.size_bytes for line in self.weights)

    @property
    def growing_bytes(self) -> int:
        """Caches that grow with context."""
        return self.cache.total_bytes - self.fixed_bytes

    @property
    def fixed_bytes(self) -> int:
        """Windows, recurrent states and cross-attention, at what this context fills of them."""
        bounded = (line.bytes_per_sequence for line in self.cache.lines if not line.growth)
        return self.cache.sequences * sum(bounded)

    @property
    def free_bytes(self) -> int:
        """What is left when everything is in; negative by what is missing."""
        if self.room_is_given and self.room_bytes < 0:
            return self.room_bytes  # the caches would lie in the room that is not there
        return self.room_bytes - self.cache.total_bytes

    @property
    def fits(self) -> bool:
        """Whether weights and caches stay within what is allowed."""
        return self.free_bytes >= 0


@dataclass(frozen=True)
class Plan:
    """A model on GPUs in one layout: the budget of the fullest GPU and the limits it sets.

    ``max_context_tokens`` (for the sequences asked for) and ``max_sequences`` (at the context
    asked for) are None where memory does not bound them. ``tokens`` is how many tokens all caches
    hold together in sequences of that context. ``decode_read_bytes`` are read one stage after the
    other for a step, ``decode_busiest_bytes`` by the stage that reads most. What follows from them
    is a bound and no prediction: nothing but active weights and caches, read once at the GPU's
    full bandwidth; None where that is unknown.
    """

    spec: ModelSpec
    gpu: Gpu
    layout: Layout
    work: Workload
    settings: Settings
    budget: Budget
    max_context_tokens: int | None
    max_sequences: int | None
    max_concurrency: float
    """Sequences of the context asked for that fit at once, as vLLM counts: with a fraction."""
    decode_read_bytes: int
    decode_busiest_bytes: int

    @property
    def fits(self) -> bool:
        """Whether the workload asked for fits."""
        return self.budget.fits

    @property
    def tokens(self) -> int | None:
        """Tokens that all caches hold together in sequences of this context."""
        held = self.max_concurrency
        return None if held == inf else int(held * self.work.context_tokens)

    @property
    def tokens_per_second_bound(self) -> float | None:
        """Decoded tokens a second that no server of this layout can exceed at this batch."""
        bandwidth = self.gpu.bandwidth_bytes_per_s
        if bandwidth is None or not self.decode_busiest_bytes:
            return None
        return self.work.sequences * bandwidth / self.decode_busiest_bytes

    @property
    def decode_floor_seconds(self) -> float | None:
        """The least time from one token of a sequence to its next."""
        bandwidth = self.gpu.bandwidth_bytes_per_s
        return None if bandwidth is None else self.decode_read_bytes / bandwidth


def check_layout(spec: ModelSpec, where: Layout) -> None:
    """Raises UsageError, with the values that are possible, where a layout cannot be."""
    sizes = tensor_parallel_sizes(spec)
    if where.tensor not in sizes:
        possible = ", ".join(map(str, sizes))
        raise UsageError(
            f"{spec.name}: its heads do not divide over -tp {where.tensor}",
            f"possible: {possible}",
        )
    if where.pipeline > spec.total_layers:
        raise UsageError(
            f"{spec.name}: {spec.total_layers} layers make no {where.pipeline} stages",
            f"-pp goes up to {spec.total_layers}",
        )
    if (where.attention_groups > 1 or where.expert_parallel) and not _has_experts(spec):
        raise UsageError(
            f"{spec.name} has no routed experts to share",
            "for a dense model data parallelism is -dp: replicas",
        )
    _check_context(spec, where)


def _has_experts(spec: ModelSpec) -> bool:
    return any(row.part == "routed_experts" for row in spec.weights)


def _check_context(spec: ModelSpec, where: Layout) -> None:
    """The limits of vLLM 0.33.0 config/model.py:1578 and of its sliding-window backends."""
    if where.context == 1:
        return
    if where.tensor % where.context:
        raise UsageError(
            f"-dcp {where.context} does not divide -tp {where.tensor}",
            f"possible: {', '.join(map(str, _divisors(where.tensor)))}",
        )
    for kind, _, _ in spec.caches():
        for slot in kind.slots():
            if kind.growth() and slot.split != "whole":
                most = where.tensor // slot.heads
                if most < where.context:
                    raise UsageError(
                        f"{spec.name}: -dcp {where.context} needs -tp of {where.context} times its "
                        f"{slot.heads} KV heads, or more",
                        "a latent cache (MLA) has no such limit",
                    )
        if kind.fixed_entries() > 1 and not kind.per_encoder_input:
            raise RefusedError(
                f"{spec.name}: no engine divides a sliding window by decode context parallelism",
                "vLLM 0.33.0 asserts against it; leave -dcp out",
            )


def _divisors(number: int) -> list[int]:
    return [size for size in range(1, number + 1) if number % size == 0]


def overhead(gpu: Gpu, settings: Settings) -> tuple[int, str]:
    """Bytes that are neither weights nor caches, and the basis of that figure."""
    if settings.overhead_bytes is not None:
        return settings.overhead_bytes, "measured"
    process_bytes = gpu.process_bytes or _PROCESS_BYTES
    return process_bytes + int(gpu.memory_bytes * _ACTIVATION_SHARE), "assumed"


def _caches(spec: ModelSpec, work: Workload, where: Layout) -> tuple[Footprint, ...]:
    """One GPU's caches in each stage: a sequence group takes its share, rounded up."""
    sequences = ceil_div(work.sequences, where.sequence_groups)
    return tuple(
        footprint(
            stage,
            work.context_tokens,
            sequences,
            work.kv_cache_dtype,
            where.tensor,
            where.context,
            draft=work.draft,
        )
        for stage in _stages(spec, where)
    )


def _stages(spec: ModelSpec, where: Layout) -> tuple[ModelSpec, ...]:
    return (spec,) if where.pipeline == 1 else spec.stages(where.pipeline)


def _stage_weights(spec: ModelSpec, where: Layout) -> tuple[tuple[WeightsLine, ...], ...]:
    stages = _stages(spec, where)
    last = len(stages) - 1
    return tuple(
        weights_on_rank(spec, where, stage.total_layers, first=index == 0, last=index == last)
        for index, stage in enumerate(stages)
    )


def stage_budgets(
    spec: ModelSpec, work: Workload, gpu: Gpu, where: Layout, settings: Settings
) -> tuple[Budget, ...]:
    """The budget of a GPU of each stage. Raises KvplanError for what cannot be laid out."""
    if spec.weights_bytes is None and settings.kv_cache_memory_bytes is None:
        raise RefusedError(
            f"the weights of {spec.name} are not known",
            "give parameters and weights in the spec, or the caches' room: --kv-cache-memory-bytes",
        )
    extra, basis = overhead(gpu, settings)
    budgets = []
    for weights, cache in zip(_stage_weights(spec, where), _caches(spec, work, where), strict=True):
        taken = extra + sum(line.size_bytes for line in weights)
        allowed, room = _allowed(settings, gpu.memory_bytes, taken)
        given = settings.kv_cache_memory_bytes is not None
        budgets.append(Budget(gpu.memory_bytes, allowed, extra, basis, weights, cache, room, given))
    return tuple(budgets)


def _allowed(settings: Settings, memory_bytes: int, taken_bytes: int) -> tuple[int, int]:
    """Bytes that may be used, and what of them is left for caches: negative by what is missing.

    Room that is given takes the place of utilisation; an engine takes it whole or does not start.
    """
    given = settings.kv_cache_memory_bytes
    if given is None:
        allowed = int(memory_bytes * settings.utilization)
        return allowed, allowed - taken_bytes
    missing = taken_bytes + given - memory_bytes
    return (memory_bytes, -missing) if missing > 0 else (taken_bytes + given, given)


def budget(spec: ModelSpec, work: Workload, gpu: Gpu, where: Layout, settings: Settings) -> Budget:
    """The budget of the fullest GPU. Raises KvplanError for what cannot be laid out."""
    return _fullest(stage_budgets(spec, work, gpu, where, settings))


def _fullest(budgets: tuple[Budget, ...]) -> Budget:
    return min(budgets, key=lambda each: each.free_bytes)


def plan(
    spec: ModelSpec, work: Workload, gpu: Gpu, where: Layout, settings: Settings | None = None
) -> Plan:
    """The model in this layout: what fits, how long a context, how many sequences."""
    chosen = settings or Settings()
    check_layout(spec, where)
    budgets = stage_budgets(spec, work, gpu, where, chosen)

    read = [read_bytes(spec, each.weights) + _cache_read_bytes(each.cache) for each in budgets]
    return Plan(
        spec=spec,
        gpu=gpu,
        layout=where,
        work=work,
        settings=chosen,
        budget=_fullest(budgets),
        max_context_tokens=_max_context(budgets, ceil_div(work.sequences, where.sequence_groups)),
        max_sequences=_max_sequences(budgets, where),
        max_concurrency=_concurrency(budgets, where),
        decode_read_bytes=sum(read),
        decode_busiest_bytes=max(read),
    )


def _max_context(budgets: tuple[Budget, ...], sequences: int) -> int | None:
    """The longest context of so many sequences in each group; None for any."""
    return _most(
        lambda tokens: all(
            sequences * each.cache.bytes_per_sequence_at(tokens) <= each.room_bytes
            for each in budgets
        )
    )


def _max_sequences(budgets: tuple[Budget, ...], where: Layout) -> int | None:
    """Whole sequences that every group holds at once; None for any number."""
    if any(each.room_bytes < 0 for each in budgets):
        return 0
    held = [
        each.room_bytes // each.cache.bytes_per_sequence
        for each in budgets
        if each.cache.bytes_per_sequence
    ]
    return min(held) * where.sequence_groups if held else None


def _concurrency(budgets: tuple[Budget, ...], where: Layout) -> float:
    """Sequences that fit at once, with a fraction; infinite where they keep nothing."""
    held = (
        max(0, each.room_bytes) / each.cache.bytes_per_sequence
        for each in budgets
        if each.cache.bytes_per_sequence
    )
    return min(held, default=inf) * where.sequence_groups


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


def _most(holds: Callable[[int], bool]) -> int | None:
    """The largest number that holds, found by doubling and halving; None for any number."""
    high = 2
    while holds(high):
        if high >= _MOST:
            return None
        high = min(high * high, _MOST)
    return largest(holds, high - 1)


def layouts(spec: ModelSpec, gpus: int) -> tuple[Layout, ...]:
    """Every layout of so many GPUs that engines offer for this model.

    Tensor groups with replicas, data-parallel attention with shared experts, pipeline stages, and
    decode context parallelism over one tensor group.
    """
    return tuple(where for where in _candidates(spec, gpus) if _possible(spec, where))


def _candidates(spec: ModelSpec, gpus: int) -> Iterator[Layout]:
    for tensor in tensor_parallel_sizes(spec):
        if gpus % tensor:
            continue
        rest = gpus // tensor
        yield Layout(tensor, replicas=rest)
        if rest > 1:
            yield Layout(tensor, attention_groups=rest)
            yield Layout(tensor, pipeline=rest)
        for context in _divisors(tensor)[1:] if rest == 1 else ():
            yield Layout(tensor, context=context)


def _possible(spec: ModelSpec, where: Layout) -> bool:
    try:
        check_layout(spec, where)
    except (UsageError, RefusedError):
        return False
    return True


def compared_layouts(
    spec: ModelSpec, work: Workload, gpu: Gpu, gpus: int, settings: Settings | None = None
) -> tuple[Plan, ...]:
    """A plan for every layout of so many GPUs, the best first.

    Best is what fits and holds most sequences of this context; layouts with pipeline stages come
    after those without, since a token has to pass all stages one after the other.
    """
    found = [plan(spec, work, gpu, where, settings) for where in layouts(spec, gpus)]
    return tuple(sorted(found, key=_worth))


def _worth(each: Plan) -> tuple[bool, bool, float]:
    return (not each.fits, each.layout.pipeline > 1, -each.max_concurrency)


@dataclass(frozen=True)
class Question:
    """What is asked of a model on one kind of GPU; None is what is to be found out.

    ``layout`` stands where the layout is given, ``gpus`` where only their number is.
    """

    context_tokens: int | None = None
    sequences: int | None = None
    gpus: int | None = None
    layout: Layout | None = None
    kv_cache_dtype: str = "auto"
    draft: bool = False


def solved(spec: ModelSpec, gpu: Gpu, asked: Question, settings: Settings | None = None) -> Plan:
    """The plan that answers the question: what is given is kept, the rest is found.

    Without GPUs, the fewest that hold the workload; without a context, the longest that fits, the
    model's native one at most; without sequences, as many as fit. Raises UsageError where nothing
    can be found.
    """
    native = spec.native_context_tokens
    work = Workload(
        asked.context_tokens or native or 1, asked.sequences or 1, asked.kv_cache_dtype, asked.draft
    )
    found = _laid_out(spec, work, gpu, asked, settings)
    if asked.context_tokens is None and found.max_context_tokens and (asked.gpus or asked.layout):
        longest = min(found.max_context_tokens, native or found.max_context_tokens)
        found = plan(spec, replace(work, context_tokens=longest), gpu, found.layout, settings)
    if asked.sequences is None and found.max_sequences:
        most = replace(found.work, sequences=found.max_sequences)
        found = plan(spec, most, gpu, found.layout, settings)
    return found


def _laid_out(
    spec: ModelSpec, work: Workload, gpu: Gpu, asked: Question, settings: Settings | None
) -> Plan:
    if asked.layout is not None:
        return plan(spec, work, gpu, asked.layout, settings)
    if asked.gpus is None:
        found = smallest_plan(spec, work, gpu, settings)
        if found is None:
            raise NothingFitsError(
                f"no layout of up to {_COPIES_TRIED[-1]} {gpu.name} holds {spec.name} like this",
                "give -tp, -pp or --gpus to see what one layout is short of",
            )
        return found
    best = _best_layout(spec, work, gpu, asked.gpus, settings or Settings())
    if best is not None:
        return plan(spec, work, gpu, best, settings)
    compared = compared_layouts(spec, work, gpu, asked.gpus, settings)
    if not compared:
        possible = ", ".join(map(str, tensor_parallel_sizes(spec)))
        raise UsageError(
            f"{spec.name} cannot be laid out over {asked.gpus} GPUs", f"-tp can be {possible}"
        )
    return compared[0]


def smallest_plan(
    spec: ModelSpec, work: Workload, gpu: Gpu, settings: Settings | None = None
) -> Plan | None:
    """The fewest GPUs that hold the workload, in the layout that holds most there; or None."""
    chosen = settings or Settings()
    for gpus in _COPIES_TRIED:
        if gpus * gpu.memory_bytes < (spec.weights_bytes or 0):
            continue
        best = _best_layout(spec, work, gpu, gpus, chosen)
        if best is not None:
            return plan(spec, work, gpu, best, chosen)
    return None


def _best_layout(
    spec: ModelSpec, work: Workload, gpu: Gpu, gpus: int, settings: Settings
) -> Layout | None:
    """The best of so many GPUs that fits, without the limits of those that are not it."""
    fitting = []
    for where in layouts(spec, gpus):
        budgets = stage_budgets(spec, work, gpu, where, settings)
        if all(each.fits for each in budgets):
            fitting.append((where.pipeline > 1, -_concurrency(budgets, where), where))
    return min(fitting, key=lambda found: found[:2])[2] if fitting else None
