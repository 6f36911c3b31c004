"""What is asked, for everyone: command line, deployments, Python, measurements.

``ask`` reads the names and units that users write; everything behind it sees a ``Question``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import TypedDict, Unpack, cast

from kvplan.errors import UsageError
from kvplan.gpu import Gpu
from kvplan.parallel import DEGREES, Layout, layout_of
from kvplan.registry.names import load, load_gpu
from kvplan.spec import ModelSpec
from kvplan.units import parse_bytes, parse_tokens, positive

DEFAULT_GPU = "h100-sxm-80gb"
DEFAULT_CONTEXT = "128k"
"""What commands that need a context take where none is given."""
DEFAULT_UTILIZATION = 0.92  # vLLM 0.33.0's gpu_memory_utilization
ENGINES = ("none",)
"""Whose accounting a plan can follow; ``none`` is the arithmetic itself."""

Model = str | Path | ModelSpec
"""A name, an alias, a file, or a spec that is loaded already."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """Models on one kind of GPU, and a load; None is what is to be found.

    ``layout`` stands where the layout is given, ``gpus`` where only their number is.
    ``overhead_bytes`` is what activations, CUDA graphs and the process itself take of each GPU
    (None: an estimate); ``kv_cache_memory_bytes`` gives the caches' room outright, as vLLM's
    option does.
    """

    models: tuple[ModelSpec, ...]
    gpu: Gpu
    context_tokens: int | None = None
    sequences: int | None = None
    max_num_seqs: int | None = None
    """vLLM's cap of concurrency, a data-parallel rank; ``sequences`` is the load of all ranks."""
    gpus: int | None = None
    layout: Layout | None = None
    dtype: str = "auto"
    """Of the weights that are not quantised, in vLLM's names; decides ``kv_cache_dtype`` auto."""
    quantization: str | None = None
    """A hypothesis: how a 16-bit checkpoint would be quantised."""
    kv_cache_dtype: str = "auto"
    draft: bool = False
    gpu_memory_utilization: float = DEFAULT_UTILIZATION
    overhead_bytes: int | None = None
    kv_cache_memory_bytes: int | None = None
    engine: str = "none"
    price_per_gpu_hour: float | None = None

    def __post_init__(self) -> None:
        if not self.models:
            raise UsageError("name at least one model")
        for name in ("context_tokens", "sequences", "max_num_seqs", "gpus"):
            if getattr(self, name) is not None:
                positive(name, getattr(self, name))
        if not 0 < self.gpu_memory_utilization <= 1:
            raise UsageError(
                "gpu_memory_utilization must be more than 0 and at most 1, "
                f"not {self.gpu_memory_utilization}"
            )
        if self.engine not in ENGINES:
            raise UsageError(f"engine must be one of {', '.join(ENGINES)}, not {self.engine!r}")
        if not 0 <= (self.price_per_gpu_hour or 0) < inf:
            raise UsageError("price must be a finite number, zero or more")


class Placement(TypedDict, total=False):
    """On what, in which layout and by whose rules, as users write it, in vLLM's names."""

    gpu: str | Path | Gpu
    gpus: int | None
    dtype: str
    quantization: str | None
    kv_cache_dtype: str
    draft: bool
    max_num_seqs: int | None
    tensor_parallel_size: int | None
    pipeline_parallel_size: int | None
    data_parallel_size: int | None
    decode_context_parallel_size: int | None
    replicas: int | None
    enable_expert_parallel: bool
    gpu_memory_utilization: float
    overhead: int | str | None
    kv_cache_memory_bytes: int | str | None
    engine: str
    price: float | None
    assume: str | None
    folder: Path


class Options(Placement, total=False):
    """A whole question as users write it; what is left out is found or a default."""

    context_tokens: int | str | None
    sequences: int | None


def ask(models: Sequence[Model], **options: Unpack[Options]) -> Question:
    """The question in these words: ``ask(["llama3-70b"], context_tokens="32k", gpu="h200")``.

    ``folder`` is where relative files are looked for. Raises KvplanError for a name, a unit or a
    layout that cannot be understood.
    """
    if isinstance(models, str | Path | ModelSpec):
        raise UsageError("models is a list of models, one or more", 'write ["llama3-70b"]')
    folder, gpu = options.get("folder"), options.get("gpu", DEFAULT_GPU)
    context_tokens = options.get("context_tokens")
    degrees = {name: options.get(name) for name in DEGREES}
    return Question(
        models=tuple(as_spec(model, options.get("assume"), folder) for model in models),
        gpu=gpu if isinstance(gpu, Gpu) else load_gpu(gpu, folder),
        context_tokens=(
            None if context_tokens is None else as_tokens("context_tokens", context_tokens)
        ),
        sequences=options.get("sequences"),
        max_num_seqs=options.get("max_num_seqs"),
        gpus=options.get("gpus"),
        layout=layout_of(
            cast("dict[str, int | None]", degrees),
            options.get("gpus"),
            expert_parallel=options.get("enable_expert_parallel", False),
        ),
        dtype=options.get("dtype", "auto"),
        quantization=options.get("quantization"),
        kv_cache_dtype=options.get("kv_cache_dtype", "auto"),
        draft=options.get("draft", False),
        gpu_memory_utilization=options.get("gpu_memory_utilization", DEFAULT_UTILIZATION),
        overhead_bytes=_bytes(options.get("overhead")),
        kv_cache_memory_bytes=_bytes(options.get("kv_cache_memory_bytes")),
        engine=options.get("engine", "none"),
        price_per_gpu_hour=options.get("price"),
    )


def as_spec(model: Model, assume: str | None = None, folder: Path | None = None) -> ModelSpec:
    """The model of this name or file, or the spec itself."""
    return model if isinstance(model, ModelSpec) else load(model, assume, folder)


def as_tokens(name: str, value: int | str) -> int:
    """Tokens from ``"128k"`` or an int. Raises UsageError for anything else."""
    return positive(name, parse_tokens(value) if isinstance(value, str) else value)


def _bytes(value: int | str | None) -> int | None:
    return parse_bytes(value) if isinstance(value, str) else value
