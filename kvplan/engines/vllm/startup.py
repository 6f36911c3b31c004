"""What vLLM sets aside before its first block, beside the weights: figures with their range.

Paths are of vLLM 0.33.0's package. A worker asks the driver for free memory when its CUDA context,
its NCCL communicators and cuBLAS are there (v1/worker/gpu_worker.py:505), and charges itself what
is gone after a dummy step of ``max_num_batched_tokens``, that step's peak over it, and an estimate
of CUDA graphs. The factors are those of logs in tests/engines/vllm/startup.jsonl.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from kvplan.engines.base import MemoryLine
from kvplan.engines.settings import ServerSettings
from kvplan.engines.vllm.activations import forward_bytes, vocabulary
from kvplan.engines.vllm.scheduler import max_num_batched_tokens, max_num_seqs
from kvplan.gpu import Gpu
from kvplan.kinds.deepseek_v4 import CompressedKV
from kvplan.parallel import Layout
from kvplan.spec import ModelSpec
from kvplan.units import GIB, MIB
from kvplan.weights import StageLayers, hidden_size

Factors = tuple[float, float, float]
"""The figure between its low and its high."""


@dataclass(frozen=True)
class Charges:
    """What a release charges.

    ``logit_bytes`` are those that sampling takes for each logit; ``before_nccl`` is whether NCCL's
    first buffers come after the first look at free memory, and are charged. ``rocm_high_bytes`` is
    the most that ROCm's libraries take on an R9700.
    """

    since: tuple[int, ...]
    logit_bytes: Factors
    rocm_high_bytes: int = 1_100 * MIB
    counts_tokens: bool = False
    charges_graphs: bool = False
    before_nccl: bool = False


_NATIVE, _FUSED, _EITHER = (36.0, 38.6, 40.0), (8.0, 12.0, 16.0), (8.0, 12.0, 40.0)
"""Bytes a logit: sorted by torch (38.4 to 38.9 in logs of an H100), and by FlashInfer, which masks
and normalises copies of them in fp32 (v1/sample/ops/topk_topp_sampler.py); either where it was a
package's to install."""
_ROCM_LEAST_BYTES, _ROCM_BYTES, _ROCM_TUNING_BYTES = 150 * MIB, 550 * MIB, 3_800 * MIB
"""0.28 to 0.84 GiB in eleven logs of R9700 cards with 0.13; before, and on cards that no log is of,
2 to 3.7 GiB where hipBLASLt had to tune."""
_ROCM_MEASURED = frozenset({"gfx1201"})
CHARGES = (
    Charges((0, 28), _FUSED, counts_tokens=True, charges_graphs=True),
    Charges((0, 20), _FUSED, charges_graphs=True),
    Charges((0, 12), _NATIVE),
    Charges((0, 11), _NATIVE, _ROCM_TUNING_BYTES, before_nccl=True),
    Charges((0,), _EITHER, _ROCM_TUNING_BYTES, before_nccl=True),
)
"""The newest first. The second model runner (0.28) counts tokens of every sequence; graphs are
charged since 0.20.0 (envs.py, VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS)."""

_LOGIT_COUNTS = 4
_FLASHINFER_BYTES = 394 * MIB
"""VLLM_FLASHINFER_WORKSPACE_BUFFER_SIZE (envs.py:225), of the backend that GPUs of compute
capability 10 choose first."""
_GRAPH_BASE_BYTES = 100 * MIB
_GRAPH_LAYER_BYTES = 256 * 1024
_LARGEST_GRAPH, _LARGEST_GRAPH_BLACKWELL = 512, 1_024
_FEW_SEQUENCES = 32
"""What the low end stands for where nobody says max_num_seqs: logged servers often set it lower."""
_KERNEL_BYTES = (30 * MIB, 130 * MIB, 330 * MIB)
"""0.02 to 0.14 GiB of one NVIDIA GPU in logs that tell it apart."""
_SHARED_BYTES = (130 * MIB, 2 * GIB, 8 * GIB)
"""GB10: what the host takes of the memory that they share meanwhile is charged too."""
_SHARED = frozenset({"12.1", "11.0"})
_NCCL_BYTES = (0, 150 * MIB, 1_024 * MIB)
_NCCL_FIRST_BYTES = (100 * MIB, 430 * MIB, 1_400 * MIB)


def charges_of(version: str | None) -> Charges:
    """The charges of this release; the newest where none is named."""
    parts = tuple(int(part) for part in (version or "").split(".") if part.isdigit())
    for charges in CHARGES:
        if not parts or parts >= charges.since:
            return charges
    return CHARGES[-1]


def startup(
    spec: ModelSpec,
    layout: Layout,
    stage: StageLayers,
    settings: ServerSettings,
    gpu: Gpu,
    context_tokens: int,
    charges: Charges | None = None,
) -> tuple[MemoryLine, ...]:
    """The lines of a GPU of this stage; those that take nothing say why.

    ``charges`` are another release's than the one that is asked for.
    """
    charges = charges or charges_of(settings.engine_version.version)
    tokens = max_num_batched_tokens(settings, gpu, context_tokens, spec)
    sequences = min(tokens, max_num_seqs(settings, gpu, context_tokens, spec))
    few = sequences if settings.max_num_seqs is not None else min(sequences, _FEW_SEQUENCES)
    columns = vocabulary(spec) if stage.last else 0
    logits, least = sequences * columns, few * columns
    forward = tuple(
        forward_bytes(spec, each, tokens, context_tokens)
        for each in (replace(layout, data=1), layout)
    )
    graphs = graph_count(gpu, tokens, few), graph_count(gpu, tokens, sequences)
    counted = (least, logits) if charges.counts_tokens else (0, 0)
    return (
        _activations((min(forward), forward[-1]), tokens, (least, logits), charges),
        *_vision(spec, stage, tokens),
        *_compressed(spec),
        _graphs(stage.count, settings, graphs, charges),
        _buffers(gpu, counted, charges),
        _process(),
        _communication(layout, charges),
    )


def _activations(
    forwards: tuple[int, int], tokens: int, logits: tuple[int, int], charges: Charges
) -> MemoryLine:
    """The peak of the dummy step, or of sampling after it, whichever is more.

    ``forwards`` are bytes of a step by tokens of one data-parallel rank and of all, whose experts
    may see them all at once; ``logits`` those of few sequences and of as many as there may be.
    """
    alone, forward = forwards
    least, most = logits
    low, middle, high = charges.logit_bytes
    sampled = int(most * middle)
    what = "sampling after" if sampled > forward else "the widest layer of"
    return MemoryLine(
        "activations",
        max(forward, sampled),
        max(alone * 4 // 5, int(least * low)),
        max(forward * 4 // 3, int(most * high)),
        "formula",
        f"{what} a dummy step of {tokens:,} tokens",
    )


def _vision(spec: ModelSpec, stage: StageLayers, tokens: int) -> tuple[MemoryLine, ...]:
    """What a tower's largest images leave for the step, and take beyond it at the most."""
    sees = any(row.part == "vision" for row in spec.weights) or any(
        "vision" in part for part in spec.not_counted
    )
    if not sees or not stage.first:
        return ()
    outputs = tokens * hidden_size(spec) * 2
    note = "images' embeddings of one step; towers that take more than the step itself vary"
    return (MemoryLine("vision", outputs, 0, outputs + 2 * GIB, "assumed", note),)


def _compressed(spec: ModelSpec) -> tuple[MemoryLine, ...]:
    """What DeepSeek-V4 takes beyond a layer's widths: streams of the residual, work buffers."""
    if not any(isinstance(kind, CompressedKV) for kind, _, _ in spec.caches_as_written()):
        return ()
    note = "residual streams and attention's buffers: 5 to 7 GiB of all on H20, 10 on two GB10"
    return (MemoryLine("compressed attention", 2 * GIB, 0, 6 * GIB, "assumed", note),)


def _graphs(
    layers: int, settings: ServerSettings, counts: tuple[int, int], charges: Charges
) -> MemoryLine:
    """Its estimate: piecewise graphs of all sizes, full ones of as many as decode."""
    if settings.enforce_eager or not charges.charges_graphs:
        why = "none with enforce_eager" if settings.enforce_eager else "not charged before 0.20"
        return MemoryLine("cuda graphs", 0, 0, 0, "formula", why)
    few, count = counts
    least, size_bytes = (
        _GRAPH_BASE_BYTES + _GRAPH_LAYER_BYTES * layers * each for each in (few, count)
    )
    note = f"{count} graphs of {layers} layers, as vLLM estimates them before it captures any"
    return MemoryLine("cuda graphs", size_bytes, least // 2, size_bytes * 11 // 5, "measured", note)


def graph_count(gpu: Gpu, tokens: int, sequences: int) -> int:
    """Piecewise and full graphs (config/vllm.py:2452)."""
    blackwell = (gpu.compute_capability or "").startswith("10.")
    most = _LARGEST_GRAPH_BLACKWELL if blackwell else _LARGEST_GRAPH
    return _graphs_up_to(min(2 * sequences, most, tokens), sequences)


@lru_cache
def _graphs_up_to(most: int, sequences: int) -> int:
    sizes = [1, 2, 4, *range(8, 256, 8), *range(256, most + 1, 16)]
    return sum((size <= most) + (size <= sequences) for size in sizes)


def _rocm_bytes(gpu: Gpu, charges: Charges) -> tuple[int, int, int]:
    is_measured = gpu.gfx_target in _ROCM_MEASURED
    high = charges.rocm_high_bytes if is_measured else _ROCM_TUNING_BYTES
    return _ROCM_LEAST_BYTES, _ROCM_BYTES, high


def _buffers(gpu: Gpu, counted: tuple[int, int], charges: Charges) -> MemoryLine:
    """What stays: counts of every token for penalties, attention's work buffer, kernels."""
    least, counts = (each * _LOGIT_COUNTS for each in counted)
    kernels, whose = _KERNEL_BYTES, "kernels' own"
    if gpu.compute_capability is None:
        kernels, whose = _rocm_bytes(gpu, charges), "what ROCm's libraries took on an R9700"
    elif gpu.compute_capability in _SHARED:
        kernels, whose = _SHARED_BYTES, "what a host that shares the memory takes meanwhile"
    work = _FLASHINFER_BYTES if (gpu.compute_capability or "").startswith("10.") else 0
    low, middle, high = kernels
    return MemoryLine(
        "buffers",
        counts + work + middle,
        least + low,
        counts + work + high,
        "measured" if kernels is _KERNEL_BYTES else "assumed",
        f"counts of tokens for penalties, attention's work buffer, and {whose}",
    )


def _process() -> MemoryLine:
    note = "the CUDA context is there before vLLM looks, and has to fit in what it leaves"
    return MemoryLine("process", 0, 0, 0, "formula", note)


def _communication(layout: Layout, charges: Charges) -> MemoryLine:
    """What NCCL takes of a GPU after the first look at free memory."""
    if layout.tensor * layout.pipeline * layout.data == 1:
        return MemoryLine("nccl", 0, 0, 0, "formula", "one GPU")
    low, middle, high = _NCCL_FIRST_BYTES if charges.before_nccl else _NCCL_BYTES
    note = "channels of groups that first talk in the dummy step; the first ones are not charged"
    if charges.before_nccl:
        note = "buffers of all groups, 0.1 to 1.4 GiB in logs"
    return MemoryLine("nccl", middle, low, high, "measured", note)
