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
from kvplan.measure import attention
from kvplan.measure.caches import CacheQuestion, held, room_bytes
from kvplan.measure.ceilings import Ceilings
from kvplan.measure.device import Device, first_line, is_out_of_memory
from kvplan.measure.kernels import Setting, UnavailableError, candidates, prepared
from kvplan.measure.names import Kernel
from kvplan.measure.shapes import AttentionShape, attention_shapes
from kvplan.measure.timing import seconds
from kvplan.units import GIB, ceil_div

LARGEST_ERROR = 3e-3  # of bf16 results against float64; beyond it a kernel is wrong, not fast
_ROTATED_BYTES = GIB  # of caches read in turn, so that none comes from the L2
_ROTATED_ON_CPU = 2  # where the figures are no more than an example
_WORKSPACE_BYTES = {"cuda": 2 * GIB, "cpu": 0}  # left free for scores, splits and the reference
_WEIGHT_LAYERS = 8  # layers whose projections are read in turn

NAIVE = "MLA's naive form"

Tell = Callable[[str], None]
"""Hears what is tried next: a kernel's name, or ``NAIVE``."""


@dataclass(frozen=True)
class DecodeQuestion:
    """A step to measure: over which caches, by which kernel, on at most so many bytes."""

    caches: CacheQuestion
    kernel: Kernel
    max_bytes: int | None = None
    skip: tuple[Kernel, ...] = ()
    """Kernels that took the process with them when they were tried."""
    no_naive: str | None = None
    """Why MLA is not to be measured in naive form; None where it is."""


@dataclass(frozen=True)
class KernelTime:
    """A kernel's seconds for a layer and its relative error; the reason, where it has none.

    ``available`` is false where it is not to be had here at all, which is no failure.
    """

    kernel: Kernel
    layer_seconds: float | None = None
    error: float | None = None
    reason: str | None = None
    available: bool = True


@dataclass(frozen=True)
class LatentTimes:
    """What belongs to MLA's two forms; seconds for a layer.

    ``projection_seconds`` are absorption's two products (query into the latent space, result out
    of it), ``naive_seconds`` the whole step with the latent expanded to every head's keys and
    values (None where it was not measured, with the reason).
    """

    projection_seconds: float
    naive_seconds: float | None
    naive_reason: str | None = None


@dataclass(frozen=True)
class LayerTime:
    """One kind of layer: what its step took by the best kernel, and what bounds it.

    ``distinct`` caches were read in turn.
    """

    shape: AttentionShape
    sequences: int
    distinct: int
    best: KernelTime
    tried: tuple[KernelTime, ...]
    latent: LatentTimes | None

    @property
    def layer_seconds(self) -> float:
        """Attention over one layer's cache."""
        return self.best.layer_seconds or 0.0

    @property
    def read_bytes(self) -> int:
        """Cache bytes of one layer."""
        return self.sequences * self.shape.bytes_per_sequence

    @property
    def flops(self) -> int:
        """Operations of one layer."""
        return self.sequences * self.shape.flops_per_sequence

    def roof_share(self, ceilings: Ceilings) -> float:
        """The least possible time over the measured one."""
        return ceilings.roof_seconds(self.read_bytes, self.flops) / self.layer_seconds

    def bound_by(self, ceilings: Ceilings) -> str:
        """The larger of the two roofs: ``bytes`` or ``FLOPs``."""
        by_bytes = self.read_bytes / ceilings.read_bytes_per_second
        return "bytes" if by_bytes >= self.flops / ceilings.matmul_flops_per_second else "FLOPs"


@dataclass(frozen=True)
class DecodeMeasurement:
    """Attention's part of one decode step, all layers of one GPU."""

    caches: CacheQuestion
    layers: tuple[LayerTime, ...]

    @property
    def token_seconds(self) -> float:
        """Attention over all layers' caches, one after the other."""
        return sum(layer.shape.layers * layer.layer_seconds for layer in self.layers)

    @property
    def read_bytes(self) -> int:
        """Cache bytes that a step reads."""
        return sum(layer.shape.layers * layer.read_bytes for layer in self.layers)

    @property
    def tokens_per_second(self) -> float:
        """Tokens of all sequences a second, if attention were all there is."""
        return self.caches.sequences / self.token_seconds

    @property
    def absorbed_token_seconds(self) -> float | None:
        """Attention with what absorption adds to it: MLA's projections; None without MLA."""
        latent = [layer for layer in self.layers if layer.latent]
        if not latent:
            return None
        return self.token_seconds + sum(
            layer.shape.layers * layer.latent.projection_seconds for layer in latent if layer.latent
        )

    @property
    def naive_token_seconds(self) -> float | None:
        """The same with MLA's latent expanded at each step; None where that was not measured."""
        naive = [layer.latent.naive_seconds for layer in self.layers if layer.latent]
        if not naive or None in naive:
            return None
        return sum(
            layer.shape.layers
            * ((layer.latent and layer.latent.naive_seconds) or layer.layer_seconds)
            for layer in self.layers
        )


def measured_decode(device: Device, question: DecodeQuestion, tell: Tell) -> DecodeMeasurement:
    """One step over these caches; ``tell`` hears of each kernel before it is tried.

    Raises MeasurementError where no layer fits or no kernel works, RefusedError for caches over
    which attention is not measured.
    """
    shapes = attention_shapes(question.caches)
    layers = tuple(_layer_time(device, question, shape, tell) for shape in shapes)
    return DecodeMeasurement(question.caches, layers)


def _layer_time(
    device: Device, question: DecodeQuestion, shape: AttentionShape, tell: Tell
) -> LayerTime:
    setting = Setting(shape, question.caches.sequences, device.torch_device)
    count = _distinct(device, setting, question.max_bytes)
    with held(device) as tensors:
        caches = [_cache(setting, tensors) for _ in range(count)]
        queries = [_random(setting, _query_shape(setting)) for _ in range(count)]
        exact = _exact(setting, queries[0], caches[0])
        tried = [
            _tried(device, kernel, setting, queries, caches, exact, tell)
            for kernel in _wanted(question, setting)
        ]
        del exact
        latent = None
        if shape.expanded:
            tell(NAIVE)
            latent = _latent_times(device, setting, caches[0][0], question.no_naive)
        caches.clear()
        queries.clear()
    best = min(
        (time for time in tried if time.layer_seconds is not None),
        key=lambda time: time.layer_seconds or 0.0,
        default=None,
    )
    if best is None:
        reasons = "; ".join(f"{time.kernel.value}: {time.reason}" for time in tried)
        raise MeasurementError(f"no kernel worked: {reasons}")
    return LayerTime(shape, setting.sequences, count, best, tuple(tried), latent)


def _distinct(device: Device, setting: Setting, max_bytes: int | None) -> int:
    """Caches to read in turn: as many as there are layers, a GiB at least, as far as they fit."""
    each = setting.sequences * setting.shape.bytes_per_sequence
    room = room_bytes(device, max_bytes)
    fitting = (room - min(_WORKSPACE_BYTES[device.kind], room // 4)) // each
    if not fitting:
        raise MeasurementError(
            f"not even one layer's cache of {each:,} bytes fits in {room:,} beside its workspace",
            "fewer --sequences, a shorter --ctx, or more -tp",
        )
    if device.kind == "cpu":
        return min(fitting, _ROTATED_ON_CPU)
    return min(fitting, max(setting.shape.layers, ceil_div(_ROTATED_BYTES, each)))


def _random(setting: Setting, shape: tuple[int, ...]) -> Tensor:
    return torch.empty(shape, dtype=setting.dtype, device=setting.device).normal_()


def _query_shape(setting: Setting) -> tuple[int, ...]:
    return (setting.sequences, setting.shape.query_heads, setting.shape.key_width)


def _cache(setting: Setting, tensors: list[Tensor]) -> tuple[Tensor, ...]:
    """One layer's cache: the latent with its rotary key, or keys and values."""
    shape = setting.shape
    sizes: list[tuple[int, ...]] = [(setting.sequences, shape.entries, shape.key_width)]
    if not shape.expanded:
        head = (setting.sequences, shape.kv_heads, shape.entries)
        sizes = [(*head, shape.key_width), (*head, shape.value_width)]
    made = tuple(_random(setting, size) for size in sizes)
    tensors.extend(made)
    return made


def _exact(setting: Setting, query: Tensor, cache: tuple[Tensor, ...]) -> Tensor:
    shape = setting.shape
    if not shape.expanded:
        return attention.reference(query, cache[0], cache[1], shape.scale)
    key = cache[0].unsqueeze(1)
    return attention.reference(query, key, key[..., : shape.value_width], shape.scale)


def _wanted(question: DecodeQuestion, setting: Setting) -> tuple[Kernel, ...]:
    if question.kernel is not Kernel.AUTO:
        return (question.kernel,)
    return tuple(
        kernel
        for kernel in candidates(setting.shape, setting.device)
        if kernel not in question.skip
    )


def _tried(
    device: Device,
    kernel: Kernel,
    setting: Setting,
    queries: list[Tensor],
    caches: list[tuple[Tensor, ...]],
    exact: Tensor,
    tell: Tell,
) -> KernelTime:
    tell(kernel.value)
    try:
        attend = prepared(kernel, setting)
        error = attention.relative_error(attend(queries[0], caches[0]), exact)
        if not error < LARGEST_ERROR:
            return KernelTime(kernel, error=error, reason=f"wrong by {error:.2g}")
        steps = [
            partial(attend, query, cache) for query, cache in zip(queries, caches, strict=True)
        ]
        return KernelTime(kernel, seconds(device, steps) / len(steps), error)
    except UnavailableError as reason:
        return KernelTime(kernel, reason=str(reason), available=False)
    except Exception as error:  # noqa: BLE001 - a kernel of whatever library fails in its own way
        device.synchronize()  # raises where the kernel took the CUDA context with it
        if is_out_of_memory(error):
            return KernelTime(kernel, reason="needs more memory than is free")
        return KernelTime(kernel, reason=f"{type(error).__name__}: {first_line(error)}")


def _latent_times(
    device: Device, setting: Setting, cache: Tensor, no_naive: str | None
) -> LatentTimes:
    shape = setting.shape
    nope, rope, width = shape.expanded or (0, 0, 0)
    latent = shape.value_width
    heads = shape.query_heads
    # Scaled as trained projections are, so that scores stay of the order of one.
    up_keys = [_random(setting, (heads, nope, latent)) / nope**0.5 for _ in range(_WEIGHT_LAYERS)]
    up_values = [
        _random(setting, (heads, latent, width)) / latent**0.5 for _ in range(_WEIGHT_LAYERS)
    ]
    query = _random(setting, (setting.sequences, heads, nope + rope))
    result = _random(setting, (setting.sequences, heads, latent))

    def both(index: int) -> None:
        attention.absorbed(query, up_keys[index])
        attention.projected(result, up_values[index])

    steps = [partial(both, index) for index in range(_WEIGHT_LAYERS)]
    projections = seconds(device, steps) / _WEIGHT_LAYERS
    if no_naive is not None:
        return LatentTimes(projections, None, no_naive)
    step = partial(attention.naive, query, cache, up_keys[0], up_values[0], shape.scale)
    try:
        taken = seconds(device, [step], graph=False)
    except RuntimeError as error:
        device.synchronize()  # raises where the step took the CUDA context with it
        reason = "needs more memory than is free" if is_out_of_memory(error) else first_line(error)
        return LatentTimes(projections, None, reason)
    return LatentTimes(projections, taken)
