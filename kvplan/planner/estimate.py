"""How long a decode step takes: what each GPU reads, and what GPUs say to one another.

An estimate, basis ``assumed``, to choose a layout by: no kernel, scheduler or launch is in it, nor
a draft model's steps and the tokens that they save. The strict lower bound (active weights and
caches at full bandwidth, nothing else) stands beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log2

from kvplan.calc import Footprint
from kvplan.gpu import Gpu
from kvplan.parallel import Layout
from kvplan.planner.budget import Budget, by_stage
from kvplan.planner.weights import read_bytes
from kvplan.spec import ModelSpec
from kvplan.units import ceil_div
from kvplan.weights import WeightsLine, active_experts, hidden_size

LATENCY_SECONDS = 12e-6
"""Of a collective of two GPUs before its first byte: NCCL 2.28.9 on two H100, in a CUDA graph,
2026-11-25: 12.2 to 14.1 µs up to 256 KiB. Of more GPUs it is taken to grow with log2."""
NODE_BYTES_PER_SECOND = 50e9  # a GPU's share of the network between link domains: 400 Gbit/s
NODE_LATENCY_SECONDS = 25e-6
_COLLECTIVES_PER_LAYER = 2  # all-reduces after attention and MLP; dispatch and combine of experts
_ACTIVATION_BYTES = 2  # 16 bits


@dataclass(frozen=True)
class Step:
    """A decode step of all sequences, one new token each: seconds, and those spent in talking."""

    seconds: float
    communication_seconds: float


def estimate(
    spec: ModelSpec, gpu: Gpu, layout: Layout, budgets: tuple[Budget, ...], sequences: int
) -> Step | None:
    """A step of so many sequences; None where the GPU's bandwidth is not known.

    Pipeline stages work on micro-batches, one behind the other: a step takes as long as one
    micro-batch through all stages, or all of them through the slowest stage.
    """
    bandwidth = gpu.bandwidth_bytes_per_s
    if bandwidth is None:
        return None
    in_group = ceil_div(sequences, layout.sequence_groups)
    in_batch = ceil_div(in_group, layout.pipeline)
    batches = ceil_div(in_group, in_batch)
    talk = _communication_seconds(spec, gpu, layout, in_batch) / layout.pipeline
    read = by_stage(
        lambda budget: _read_bytes(spec, budget, in_batch, in_batch * layout.data), budgets
    )
    stages = [size_bytes / bandwidth + talk for size_bytes in read]
    return Step(max(sum(stages), batches * max(stages)), talk * max(len(stages), batches))


def _read_bytes(spec: ModelSpec, budget: Budget, in_group: int, in_experts: int) -> float:
    """What a GPU reads for a batch: weights that it touches, and caches.

    Of the routed experts those that the tokens of all ranks choose.
    """
    experts = experts_touched(spec, in_experts)
    cache = cache_read_bytes(budget.cache.own) * in_group / budget.cache.sequences
    return read_bytes(spec, budget.weights, experts) + cache


def experts_touched(spec: ModelSpec, batch: int) -> float:
    """Expected share of the routed experts that ``batch`` tokens choose, k of E each.

    1 − (1 − k/E)^batch, routing taken as uniform. All of them where k/E is not known.
    """
    share = active_experts(spec)
    return 1 - (1 - share) ** batch if share else 1.0


def least_read_bytes(spec: ModelSpec, budget: Budget) -> int:
    """The fewest bytes that a step reads: one token's experts, and the caches."""
    lines: tuple[WeightsLine, ...] = budget.weights
    return read_bytes(spec, lines, active_experts(spec)) + cache_read_bytes(budget.cache.own)


def cache_read_bytes(cache: Footprint) -> int:
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


def _communication_seconds(spec: ModelSpec, gpu: Gpu, layout: Layout, tokens: int) -> float:
    """Collectives of all layers for a group's batch of so many tokens.

    All-reduces within a tensor group, all-to-alls between the ranks that share experts.
    """
    message = tokens * hidden_size(spec) * _ACTIVATION_BYTES
    layers, domain = spec.total_layers, gpu.link_domain
    seconds = 0.0
    if layout.tensor > 1:
        share = 2 * (layout.tensor - 1) / layout.tensor  # ring all-reduce: each byte goes twice
        rate, latency = _link(gpu, layout.tensor, domain)
        seconds += layers * _COLLECTIVES_PER_LAYER * (latency + share * message / rate)
    if layout.data > 1:
        gpus = layout.tensor * layout.data
        chosen = max(1.0, active_experts(spec) * (spec.routed_experts or 1))
        copies = chosen if layout.expert_parallel else gpus  # slices are on every GPU
        rate, latency = _link(gpu, gpus, domain)
        sent = message / layout.tensor * min(copies, gpus) * (gpus - 1) / gpus
        seconds += layers * _COLLECTIVES_PER_LAYER * (latency + sent / rate)
    return seconds


def _link(gpu: Gpu, gpus: int, domain: int) -> tuple[float, float]:
    """Bytes a second and latency of a collective of so many GPUs."""
    rate = float(gpu.link_bytes_per_s or NODE_BYTES_PER_SECOND)
    latency = LATENCY_SECONDS * log2(max(2, min(gpus, domain)))
    if gpus <= domain:
        return rate, latency
    return min(rate, NODE_BYTES_PER_SECOND), latency + NODE_LATENCY_SECONDS * log2(gpus / domain)
