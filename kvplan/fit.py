"""How many GPUs, and how long a context: monotone searches over the same footprint.

Plain arithmetic: a GPU offers all the memory that its driver lets a process see, weights are
split evenly over a tensor-parallel group, and nothing is set aside for activations or for what a
serving engine adds. Counts are therefore lower bounds and contexts upper bounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd, isqrt

from kvplan.calc import Footprint, footprint
from kvplan.errors import UsageError
from kvplan.parallel import Layout, splits
from kvplan.spec import Gpu, ModelSpec
from kvplan.units import ceil_div, largest, positive

BASIS = (
    "GPU counts are lower bounds: plain arithmetic, weights split evenly, nothing for "
    "activations or a serving engine"
)

_MAX_CONTEXT = 1 << 60


@dataclass(frozen=True)
class Workload:
    """What is asked of a model: ``sequences`` at once, each of ``context_tokens``."""

    context_tokens: int
    sequences: int = 1
    kv_cache_dtype: str = "auto"
    draft: bool = False


def layout(gpus: int | None, tensor_parallel: int | None) -> Layout | None:
    """The layout that was asked for; None where the GPUs are to be counted.

    Raises UsageError where the GPUs are no whole number of tensor-parallel groups.
    """
    if gpus is None and tensor_parallel is None:
        return None
    for name, value in (("gpus", gpus), ("tensor_parallel", tensor_parallel)):
        if value is not None:
            positive(name, value)
    group = tensor_parallel or gpus or 1
    total = gpus or group
    if total % group:
        raise UsageError(
            f"{total} GPUs are no whole number of groups of {group}",
            f"--gpus has to be a multiple of -tp {group}",
        )
    return Layout(tensor=group, replicas=total // group)


def tensor_parallel_sizes(spec: ModelSpec) -> tuple[int, ...]:
    """Group sizes over which every head of the model can be laid out, smallest first.

    Attention heads have to divide; KV heads divide, or are replicated when there are fewer;
    recurrent heads divide.
    """
    kinds = [kind for kind, _, _ in spec.caches()]
    query_heads = [heads for kind in kinds if (heads := kind.query_heads())]
    slots = [slot for kind in kinds for slot in kind.slots()]
    divided = [slot.heads for slot in slots if slot.split == "divide"]
    sizes = _divisors(gcd(*query_heads, *divided) or 1)
    return tuple(size for size in sizes if splits(slots, query_heads, size))


def _divisors(number: int) -> list[int]:
    small = [size for size in range(1, isqrt(number) + 1) if number % size == 0]
    return sorted({*small, *(number // size for size in small)})


def on_one_gpu(spec: ModelSpec, work: Workload, where: Layout) -> Footprint:
    """The footprint of the fullest GPU: a replica takes its share of the sequences, rounded up."""
    return footprint(
        spec,
        work.context_tokens,
        ceil_div(work.sequences, where.sequence_groups),
        work.kv_cache_dtype,
        where.tensor,
        draft=work.draft,
    )


def fits(spec: ModelSpec, work: Workload, gpu: Gpu, where: Layout) -> bool:
    """Whether weights and caches together stay within each GPU's memory."""
    return on_one_gpu(spec, work, where).total_bytes <= room_for_cache_bytes(spec, gpu, where)


def room_for_cache_bytes(spec: ModelSpec, gpu: Gpu, where: Layout) -> int:
    """What the weights leave of one GPU; negative where not even they fit."""
    if spec.weights_bytes is None:
        raise UsageError(f"the weights of {spec.name} are not known")
    return gpu.memory_bytes - ceil_div(spec.weights_bytes, where.tensor)


def smallest_layout(spec: ModelSpec, work: Workload, gpu: Gpu) -> Layout | None:
    """The fewest GPUs, as one tensor-parallel group, that hold weights and caches; or None."""
    for size in tensor_parallel_sizes(spec):
        if fits(spec, work, gpu, Layout(size)):
            return Layout(size)
    return None


def max_context_tokens(spec: ModelSpec, work: Workload, gpu: Gpu, where: Layout) -> int | None:
    """The longest context for those sequences on those GPUs, by memory alone.

    It fits, one token more does not. 0 where no context fits; None where memory does not bound it
    (windows and states only). What the model was trained for is not considered.
    """

    def holds(context_tokens: int) -> bool:
        longer = Workload(context_tokens, work.sequences, work.kv_cache_dtype, work.draft)
        return fits(spec, longer, gpu, where)

    return None if holds(_MAX_CONTEXT) else largest(holds, _MAX_CONTEXT)
