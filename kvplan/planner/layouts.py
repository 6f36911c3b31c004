"""Layouts of a model: those that the search may choose, and every one that there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain, islice
from math import lcm
from typing import Literal

from kvplan.errors import RefusedError, UsageError
from kvplan.gpu import Gpu
from kvplan.parallel import Layout, check_layout, redundant_experts, tensor_parallel_sizes
from kvplan.spec import ModelSpec
from kvplan.units import ceil_div, divisors

LARGEST_GPUS = 512
"""The most GPUs that a search tries; ``gpus`` takes any number."""
MOST_LAYOUTS = 2_500
"""The most layouts of one number of GPUs that are planned: DeepSeek-V3 has 1,577 on 576 GPUs."""


Check = Callable[[ModelSpec, Layout], None]
"""Raises KvplanError for a layout that cannot be, or that an engine does not take."""
Unasked = Literal["pipeline stages", "redundant experts", "idle ranks"]
"""What a layout may need that is not chosen where another layout does."""
PIPELINE: Unasked = "pipeline stages"
REDUNDANT: Unasked = "redundant experts"
IDLE: Unasked = "idle ranks"
UNASKED = (PIPELINE, REDUNDANT, IDLE)


def servers(
    spec: ModelSpec, gpu: Gpu, unasked: Unasked | None = None, check: Check = check_layout
) -> Iterator[Layout]:
    """One copy of a server in each eligible layout, fewest GPUs first.

    Tensor parallelism stays within a link domain; data-parallel ranks share routed experts, in
    slices and whole, which divide evenly, and fill whole domains beyond one. ``unasked`` gives the
    layouts with pipeline stages, or those with redundant experts, in their place. Decode context
    parallelism is for layouts that somebody asks for.
    """
    domain = gpu.link_domain
    sizes = [size for size in tensor_parallel_sizes(spec) if size <= domain]
    within = range(1, min(domain, LARGEST_GPUS) + 1)
    for gpus in chain(within, range(2 * domain, LARGEST_GPUS + 1, domain)):
        for tensor in sizes:
            groups, rest = divmod(gpus, tensor)
            if rest:
                continue
            for stages in divisors(groups):
                if (stages > 1) is (unasked == PIPELINE):
                    yield from _ranks(
                        spec, Layout(tensor, stages, groups // stages), check, unasked
                    )


def _ranks(
    spec: ModelSpec, sliced: Layout, check: Check, unasked: Unasked | None
) -> Iterator[Layout]:
    """Data-parallel ranks with slices of experts where these can be, and with whole ones."""
    if sliced.data > 1 and not spec.has_routed_experts:
        return
    whole = replace(sliced, expert_parallel=True)
    if unasked != REDUNDANT and is_possible(spec, sliced, check):
        yield sliced
    shared = spec.has_routed_experts and sliced.stage_gpus > 1
    uneven = redundant_experts(spec, whole) > 0
    if shared and uneven is (unasked == REDUNDANT) and is_possible(spec, whole, check):
        yield whole


def fewest_gpus(layout: Layout, replicas: int, domain: int) -> int:
    """GPUs of so many replicas at the least, in whole link domains beyond one."""
    gpus = layout.server_gpus * replicas
    if gpus <= domain:
        return gpus
    step = lcm(layout.server_gpus, domain)
    return ceil_div(gpus, step) * step


def layouts(spec: ModelSpec, gpus: int, check: Check = check_layout) -> tuple[Layout, ...]:
    """Every layout of exactly so many GPUs that engines offer for this model.

    Tensor groups, data-parallel ranks with experts in slices or whole, pipeline stages, decode
    context parallelism, and replicas of each. Raises UsageError where there are more than anybody
    would look through.
    """
    candidates = (
        Layout(tensor, pipeline, data, context, replicas, expert_parallel=whole)
        for replicas in divisors(gpus)
        for tensor in tensor_parallel_sizes(spec)
        if gpus // replicas % tensor == 0
        for pipeline in divisors(gpus // replicas // tensor)
        if pipeline <= spec.total_layers
        for data in (gpus // replicas // tensor // pipeline,)
        for context in divisors(tensor)
        for whole in ((False, True) if spec.has_routed_experts else (False,))
        if (data == 1 or spec.has_routed_experts) and not (whole and tensor * data == 1)
    )
    possible = (layout for layout in candidates if is_possible(spec, layout, check))
    listed = tuple(islice(possible, MOST_LAYOUTS + 1))
    if len(listed) > MOST_LAYOUTS:
        raise UsageError(
            f"{spec.name}: {gpus:,} GPUs can be laid out in more than {MOST_LAYOUTS:,} ways",
            "give the layout: tensor_parallel_size, data_parallel_size and so on",
        )
    return listed


def is_possible(spec: ModelSpec, layout: Layout, check: Check = check_layout) -> bool:
    """Whether there is such a layout of this model."""
    try:
        check(spec, layout)
    except (UsageError, RefusedError):
        return False
    return True
