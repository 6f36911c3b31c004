"""Layouts of a model: those that the search may choose, and every one that there is."""

from __future__ import annotations

from collections.abc import Iterator
from math import lcm

from kvplan.errors import RefusedError, UsageError
from kvplan.gpu import Gpu
from kvplan.parallel import Layout, check_layout, tensor_parallel_sizes
from kvplan.spec import ModelSpec
from kvplan.units import ceil_div, divisors

LARGEST_GPUS = 512
"""The most GPUs that a search tries; ``gpus`` takes any number."""


def servers(spec: ModelSpec, gpu: Gpu, *, pipeline: bool) -> Iterator[Layout]:
    """One copy of a server in each eligible layout, fewest GPUs first.

    Tensor parallelism stays within a link domain; data-parallel ranks share routed experts, in
    slices and whole, beyond one domain in whole ones. Pipeline stages where asked for, and then
    nothing else; decode context parallelism is for layouts that somebody asks for.
    """
    domain = gpu.link_domain
    sizes = [size for size in tensor_parallel_sizes(spec) if size <= domain]
    candidates = [
        Layout(tensor, pipeline=stages)
        for tensor in sizes
        for stages in (range(2, spec.total_layers + 1) if pipeline else (1,))
        if _is_whole(tensor * stages, domain)
    ]
    if spec.has_routed_experts and not pipeline:
        candidates += [
            Layout(tensor, data=ranks, expert_parallel=whole)
            for tensor in sizes
            for ranks in range(1, LARGEST_GPUS // tensor + 1)
            for whole in (False, True)
            if tensor * ranks > 1 and _is_whole(tensor * ranks, domain)
        ]
    for layout in sorted(dict.fromkeys(candidates), key=lambda layout: layout.server_gpus):
        if is_possible(spec, layout):
            yield layout


def _is_whole(gpus: int, domain: int) -> bool:
    """Whether so many GPUs lie within a link domain, or fill several of them."""
    return gpus <= domain or gpus % domain == 0


def fewest_gpus(layout: Layout, replicas: int, domain: int) -> int:
    """GPUs of so many replicas at the least, in whole link domains beyond one."""
    gpus = layout.server_gpus * replicas
    if gpus <= domain:
        return gpus
    step = lcm(layout.server_gpus, domain)
    return ceil_div(gpus, step) * step


def layouts(spec: ModelSpec, gpus: int) -> tuple[Layout, ...]:
    """Every layout of exactly so many GPUs that engines offer for this model.

    Tensor groups, data-parallel ranks with experts in slices or whole, pipeline stages, decode
    context parallelism, and replicas of each.
    """
    candidates = (
        Layout(tensor, pipeline, data, context, replicas, expert_parallel=whole)
        for replicas in divisors(gpus)
        for tensor in tensor_parallel_sizes(spec)
        if gpus // replicas % tensor == 0
        for pipeline in divisors(gpus // replicas // tensor)
        for data in (gpus // replicas // tensor // pipeline,)
        for context in divisors(tensor)
        for whole in ((False, True) if spec.has_routed_experts else (False,))
        if (data == 1 or spec.has_routed_experts) and not (whole and tensor * data == 1)
    )
    return tuple(layout for layout in candidates if is_possible(spec, layout))


def is_possible(spec: ModelSpec, layout: Layout) -> bool:
    """Whether there is such a layout of this model."""
    try:
        check_layout(spec, layout)
    except (UsageError, RefusedError):
        return False
    return True
