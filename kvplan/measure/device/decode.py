"""One decode step of attention over real caches, layer by layer: correct first, then timed.

Every layer has memory of its own, so that no layer finds its cache in the L2 of the one before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from kvplan.errors import MeasurementError
from kvplan.measure.device.caches import borrow_memory, room_bytes
from kvplan.measure.device.device import Device, first_line, is_out_of_memory
from kvplan.measure.device.timing import seconds
from kvplan.measure.kernels import attention
from kvplan.measure.kernels.kernels import Problem, UnavailableError, prepare
from kvplan.measure.question import DecodeQuestion, Kernel
from kvplan.measure.rates import DecodeMeasurement, KernelTime, LatentTimes, LayerTime
from kvplan.measure.shapes import AttentionShape, attention_shapes, kernels
from kvplan.units import GIB, ceil_div

LARGEST_ERROR = 3e-3  # of bf16 results against float64; beyond it a kernel is wrong, not fast
_ROTATED_BYTES = GIB  # of caches read in turn, so that none comes from the L2
_ROTATED_ON_CPU = 2  # where the figures are no more than an example
_WORKSPACE_BYTES = {"cuda": 2 * GIB, "cpu": 0}  # left free for scores, splits and the reference
_WEIGHT_LAYERS = 8  # layers whose projections are read in turn
_NO_MEMORY = "needs more memory than is free"

NAIVE = "MLA's naive form"

OnTrial = Callable[[str], None]
"""Hears what is tried next: a kernel's name, or ``NAIVE``."""


def measure_decode(
    device: Device, question: DecodeQuestion, on_trial: OnTrial
) -> DecodeMeasurement:
    """One step over these caches; ``on_trial`` hears of each kernel before it is tried.

    Raises MeasurementError where no layer fits or no kernel works, RefusedError for caches over
    which attention is not measured.
    """
    shapes = attention_shapes(question.caches)
    layers = tuple(_measure_layer(device, question, shape, on_trial) for shape in shapes)
    return DecodeMeasurement(question.caches, layers)


def _measure_layer(
    device: Device, question: DecodeQuestion, shape: AttentionShape, on_trial: OnTrial
) -> LayerTime:
    problem = Problem(shape, question.caches.sequences, device.torch_device)
    count = _cache_count(device, problem, question.max_bytes)
    with borrow_memory(device) as tensors:
        caches = [_random_cache(problem, tensors) for _ in range(count)]
        queries = [_random(problem, _query_shape(problem)) for _ in range(count)]
        times = _try_kernels(device, question, problem, queries, caches, on_trial)
        latent = None
        if shape.is_latent:
            on_trial(NAIVE)
            latent = _measure_latent(device, problem, caches[0][0], question.no_naive)
        caches.clear()
        queries.clear()
    return LayerTime(shape, problem.sequences, count, _fastest(times), times, latent)


@dataclass(frozen=True)
class _Operands:
    """Queries and as many caches, read in turn, and the right result of the first pair."""

    queries: list[Tensor]
    caches: list[tuple[Tensor, ...]]
    exact: Tensor


def _try_kernels(
    device: Device,
    question: DecodeQuestion,
    problem: Problem,
    queries: list[Tensor],
    caches: list[tuple[Tensor, ...]],
    on_trial: OnTrial,
) -> tuple[KernelTime, ...]:
    operands = _Operands(queries, caches, _exact(problem, queries[0], caches[0]))
    return tuple(
        _try_kernel(device, kernel, problem, operands, on_trial)
        for kernel in _candidates(question, problem)
    )


def _fastest(times: tuple[KernelTime, ...]) -> KernelTime:
    right = [time for time in times if time.layer_seconds is not None]
    if not right:
        reasons = "; ".join(f"{time.kernel.value}: {time.reason}" for time in times)
        raise MeasurementError(f"no kernel worked: {reasons}")
    return min(right, key=lambda time: time.layer_seconds or 0.0)


def _cache_count(device: Device, problem: Problem, max_bytes: int | None) -> int:
    """Caches to read in turn: as many as there are layers, a GiB at least, as far as they fit."""
    size = problem.sequences * problem.shape.bytes_per_sequence
    room = room_bytes(device, max_bytes)
    fitting = (room - min(_WORKSPACE_BYTES[device.kind], room // 4)) // size
    if not fitting:
        raise MeasurementError(
            f"not even one layer's cache of {size:,} bytes fits in {room:,} beside its workspace",
            "fewer --sequences, a shorter --ctx, or more -tp",
        )
    if device.kind == "cpu":
        return min(fitting, _ROTATED_ON_CPU)
    return min(fitting, max(problem.shape.layers, ceil_div(_ROTATED_BYTES, size)))


def _random(problem: Problem, shape: tuple[int, ...]) -> Tensor:
    return torch.empty(shape, dtype=problem.dtype, device=problem.device).normal_()


def _query_shape(problem: Problem) -> tuple[int, ...]:
    return (problem.sequences, problem.shape.query_heads, problem.shape.key_width)


def _random_cache(problem: Problem, tensors: list[Tensor]) -> tuple[Tensor, ...]:
    """One layer's cache: the latent with its rotary key, or keys and values."""
    shape = problem.shape
    sizes: list[tuple[int, ...]] = [(problem.sequences, shape.entries, shape.key_width)]
    if not shape.is_latent:
        head = (problem.sequences, shape.kv_heads, shape.entries)
        sizes = [(*head, shape.key_width), (*head, shape.value_width)]
    cache = tuple(_random(problem, size) for size in sizes)
    tensors.extend(cache)
    return cache


def _exact(problem: Problem, query: Tensor, cache: tuple[Tensor, ...]) -> Tensor:
    shape = problem.shape
    if not shape.is_latent:
        return attention.reference(query, cache[0], cache[1], shape.scale)
    key = cache[0].unsqueeze(1)
    return attention.reference(query, key, key[..., : shape.value_width], shape.scale)


def _candidates(question: DecodeQuestion, problem: Problem) -> tuple[Kernel, ...]:
    if question.kernel is not Kernel.AUTO:
        return (question.kernel,)
    names = kernels(problem.shape, problem.device.type)
    return tuple(kernel for kernel in names if kernel not in question.skip)


def _try_kernel(
    device: Device, kernel: Kernel, problem: Problem, operands: _Operands, on_trial: OnTrial
) -> KernelTime:
    on_trial(kernel.value)
    pairs = list(zip(operands.queries, operands.caches, strict=True))
    try:
        attend = prepare(kernel, problem)
        error = attention.relative_error(attend(*pairs[0]), operands.exact)
        if not error < LARGEST_ERROR:
            return KernelTime(kernel, error=error, reason=f"wrong by {error:.2g}")
        steps = [partial(attend, query, cache) for query, cache in pairs]
        return KernelTime(kernel, seconds(device, steps) / len(steps), error)
    except UnavailableError as reason:
        return KernelTime(kernel, reason=str(reason), available=False)
    except Exception as error:  # noqa: BLE001 - a kernel of whatever library fails in its own way
        device.synchronize()  # raises where the kernel took the CUDA context with it
        if is_out_of_memory(error):
            return KernelTime(kernel, reason=_NO_MEMORY)
        return KernelTime(kernel, reason=f"{type(error).__name__}: {first_line(error)}")


def _measure_latent(
    device: Device, problem: Problem, cache: Tensor, no_naive: str | None
) -> LatentTimes:
    nope, rope, width = problem.shape.expanded or (0, 0, 0)
    heads, latent = problem.shape.query_heads, problem.shape.value_width
    layers = range(_WEIGHT_LAYERS)
    # Scaled as trained projections are, so that scores stay of the order of one.
    up_keys = [_random(problem, (heads, nope, latent)) / nope**0.5 for _ in layers]
    up_values = [_random(problem, (heads, latent, width)) / latent**0.5 for _ in layers]
    query = _random(problem, (problem.sequences, heads, nope + rope))
    result = _random(problem, (problem.sequences, heads, latent))

    def project(layer: int) -> None:
        attention.latent_query(query, up_keys[layer])
        attention.head_values(result, up_values[layer])

    steps = [partial(project, layer) for layer in layers]
    projection_seconds = seconds(device, steps) / _WEIGHT_LAYERS
    if no_naive is not None:
        return LatentTimes(projection_seconds, None, no_naive)
    scale = problem.shape.scale
    step = partial(attention.naive_attention, query, cache, up_keys[0], up_values[0], scale)
    try:
        return LatentTimes(projection_seconds, seconds(device, [step], graph=False))
    except RuntimeError as error:
        device.synchronize()  # raises where the step took the CUDA context with it
        reason = _NO_MEMORY if is_out_of_memory(error) else first_line(error)
        return LatentTimes(projection_seconds, None, reason)
