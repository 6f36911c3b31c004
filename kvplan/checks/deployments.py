"""Deployments and what is expected of them, as a platform team keeps them in YAML."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from kvplan.engines.versions import NONE
from kvplan.limits import (
    Count,
    Flag,
    Input,
    Percent,
    Reading,
    Share,
    Size,
    Text,
    WrittenBytes,
    WrittenBytesOrZero,
    WrittenContext,
    WrittenTokens,
)
from kvplan.parallel import DEGREES
from kvplan.question import DEFAULT_LORA_RANK, Model, Options, Question, ask
from kvplan.units import parse_layers

WrittenLayers = Annotated[tuple[Size, ...], Reading(parse_layers)]
"""Layers of each pipeline stage: a list of them, or as on the command line."""

Figure = Literal[
    "bytes_per_token",
    "fixed_bytes_per_sequence",
    "kv_bytes",
    "weights_bytes",
    "kv_available_bytes",
    "gpus",
    "max_context_tokens",
    "max_sequences",
]
"""Figures of a deployment that can be stated; sizes of one GPU but for the first two."""


@dataclass(frozen=True, kw_only=True)
class Stated(Input):
    """A figure as somebody stated it, and by how much of it kvplan may differ."""

    figure: Figure
    value: Count
    tolerance_percent: Percent = 0.0


@dataclass(frozen=True, kw_only=True)
class Expectations(Input):
    """What has to hold; a deployment is expected to fit unless ``fits`` is false."""

    fits: Flag | None = None
    min_sequences: Count | None = None
    min_context: WrittenTokens | None = None
    max_gpus: Size | None = None
    max_bytes_per_token: Count | None = None
    min_headroom_percent: Percent | None = None
    stated: tuple[Stated, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Deployment(Input):
    """A model as it is served. Names are vLLM's; what is not given is found, as by ``plan``."""

    name: Text
    model: Text
    gpu: Text
    engine: Text = NONE
    gpus: Size | None = None
    tensor_parallel_size: Size | None = None
    pipeline_parallel_size: Size | None = None
    data_parallel_size: Size | None = None
    decode_context_parallel_size: Size | None = None
    prefill_context_parallel_size: Size | None = None
    replicas: Size | None = None
    enable_expert_parallel: Flag = False
    pipeline_partition: WrittenLayers | None = None
    context: WrittenContext = None
    sequences: Count | None = None
    max_num_seqs: Size | None = None
    max_num_batched_tokens: Size | None = None
    block_size: Size | None = None
    attention_backend: Text | None = None
    enable_prefix_caching: Flag = True
    disable_hybrid_kv_cache_manager: Flag = False
    speculative_config: Any = None
    """A mapping, or a text of JSON, as limit_mm_per_prompt is too."""
    num_speculative_tokens: Size | None = None
    num_gpu_blocks_override: Count | None = None
    enforce_eager: Flag = False
    limit_mm_per_prompt: Any = None
    dtype: Text = "auto"
    quantization: Text | None = None
    kv_cache_dtype: Text = "auto"
    mamba_cache_dtype: Text = "auto"
    mamba_ssm_cache_dtype: Text = "auto"
    index_cache_dtype: Text = "auto"
    max_loras: Size | None = None
    max_lora_rank: Size = DEFAULT_LORA_RANK
    kv_offloading_size: WrittenBytes | None = None
    gpu_memory_utilization: Share | None = None
    overhead: WrittenBytesOrZero | None = None
    kv_cache_memory_bytes: WrittenBytesOrZero | None = None
    draft: Flag = False
    draft_model: Text | None = None
    draft_kv_cache_dtype: Text = "auto"
    assume: Text | None = None
    """What every layer of a config.json of an unknown architecture keeps: a kind."""
    allow_uncounted: Flag = False
    """Weights that kvplan could not count whole are no reason to fail."""
    expect: Expectations = Expectations()

    @property
    def bounds_gpus(self) -> bool:
        """Whether anything keeps it from growing over more GPUs unnoticed."""
        degrees = (getattr(self, name) for name in DEGREES)
        return bool(self.gpus or self.expect.max_gpus or any(degrees))

    def question(self, model: Model, folder: Path) -> Question:
        """What is asked of this model; files are seen from ``folder``. Raises KvplanError."""
        asked = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name in Options.__annotations__
        }
        others = {"context_tokens": self.context, "folder": folder}
        return ask([model], **cast("Options", asked | others))


@dataclass(frozen=True, kw_only=True)
class Deployments(Input):
    """A file of them. ``defaults`` are keys that every deployment has unless it says otherwise."""

    deployments: tuple[Deployment, ...]
    defaults: Any = None
    anchors: Any = None
    """A place for ``&anchors``, looked at by nobody."""

    def __post_init__(self) -> None:
        if not self.deployments:
            raise ValueError("deployments: there is none, so nothing would be checked")

    @classmethod
    def parts(cls) -> dict[str, type[Any]]:
        return {"deployments": Deployment, **_PARTS}


@dataclass(frozen=True, kw_only=True)
class Defaults(Input):
    """The defaults of a file, as a deployment of their own."""

    defaults: Deployment

    @classmethod
    def parts(cls) -> dict[str, type[Any]]:
        return {"defaults": Deployment, **_PARTS}


_PARTS: dict[str, type[Any]] = {"expect": Expectations, "stated": Stated}
