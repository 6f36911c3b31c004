"""Every layout of so many GPUs that engines offer for a model."""

from __future__ import annotations

from collections.abc import Iterator

from kvplan.errors import RefusedError, UsageError
from kvplan.parallel import Layout, check_layout, tensor_parallel_sizes
from kvplan.spec import ModelSpec
from kvplan.units import divisors


def layouts(spec: ModelSpec, gpus: int) -> tuple[Layout, ...]:
    """Tensor groups with replicas, data-parallel attention with shared experts, pipeline stages.

    Decode context parallelism over one tensor group as well.
    """
    return tuple(layout for layout in _candidates(spec, gpus) if _is_possible(spec, layout))


def _candidates(spec: ModelSpec, gpus: int) -> Iterator[Layout]:
    for tensor in tensor_parallel_sizes(spec):
        if gpus % tensor:
            continue
        groups = gpus // tensor
        yield Layout(tensor, replicas=groups)
        if groups > 1:
            yield Layout(tensor, attention_groups=groups)
            yield Layout(tensor, pipeline=groups)
        for context in divisors(tensor)[1:] if groups == 1 else ():
            yield Layout(tensor, context=context)


def _is_possible(spec: ModelSpec, layout: Layout) -> bool:
    try:
        check_layout(spec, layout)
    except (UsageError, RefusedError):
        return False
    return True
