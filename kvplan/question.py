"""What is asked, for everyone: command line, deployments, Python, measurements.

``ask`` reads the names and units that users write; everything behind it sees a ``Question``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypedDict, Unpack, cast

from kvplan.dtypes import BesideDtypes
from kvplan.engines import engine_of
from kvplan.engines.base import Engine
from kvplan.engines.json_options import read_mm_limits
from kvplan.engines.settings import ServerSettings, check_settings
from kvplan.engines.speculation import Speculation, read_speculation
from kvplan.engines.versions import (
    DEFAULT_UTILIZATION,
    NONE,
    default_utilization,
    engine_version,
)
from kvplan.engines.vllm.backend_names import parse_backend
from kvplan.errors import RefusedError, UsageError
from kvplan.gpu import Gpu
from kvplan.limits import MOST_PRICE, MOST_SIZE, amount, whole
from kvplan.parallel import DEGREES, Layout, layout_of
from kvplan.registry.names import load, load_gpu
from kvplan.spec import ModelSpec
from kvplan.units import (
    AUTO_CONTEXT,
    KIB,
    MOST_COUNT,
    MOST_TOKENS,
    is_auto,
    named,
    parse_bytes,
    parse_layers,
    parse_tokens,
    positive,
)

DEFAULT_GPU = "h100-sxm-80gb"
DEFAULT_CONTEXT = 128 * KIB
"""What commands that need a context take where none is given."""
DEFAULT_LORA_RANK = 16  # vLLM 0.33.0 config/lora.py, max_lora_rank
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM 0.33.0 takes as ``max_lora_rank`` (config/lora.py, MaxLoRARanks)."""

Model = str | Path | ModelSpec
"""A name, an alias, a file, or a spec that is loaded already."""


@dataclass(frozen=True, kw_only=True)
class Question(ServerSettings):
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
    gpus: int | None = None
    layout: Layout | None = None
    dtype: str = "auto"
    """Of the weights that are not quantised, in vLLM's names; decides ``kv_cache_dtype`` auto."""
    quantization: str | None = None
    """A hypothesis: how a 16-bit checkpoint would be quantised."""
    mamba_cache_dtype: str = "auto"
    """Of the tails of convolutions, in vLLM's names; linear attention's state follows it."""
    mamba_ssm_cache_dtype: str = "auto"
    """Of recurrent states."""
    index_cache_dtype: str = "auto"
    """Of a sparse indexer's keys."""
    draft: bool = False
    draft_model: ModelSpec | None = None
    """A second model that drafts for the first, with weights and caches of its own."""
    draft_kv_cache_dtype: str = "auto"
    max_loras: int | None = None
    """Slots for LoRA adapters that vLLM allocates beforehand."""
    max_lora_rank: int = DEFAULT_LORA_RANK
    kv_offloading_bytes: int | None = None
    """Host memory for caches, of all tensor-parallel GPUs of a server together."""
    gpu_memory_utilization: float = DEFAULT_UTILIZATION
    overhead_bytes: int | None = None
    kv_cache_memory_bytes: int | None = None
    price_per_gpu_hour: float | None = None

    def __post_init__(self) -> None:
        if not self.models:
            raise UsageError("name at least one model")
        self._check_bounds()
        share = self.gpu_memory_utilization
        if not isinstance(share, int | float) or not 0 < share <= 1:
            raise UsageError(
                f"gpu_memory_utilization must be more than 0 and at most 1, not {share!r}"
            )
        self._check_beside()
        check_settings(self)

    @cached_property
    def accounting(self) -> Engine:
        """The engine whose rules are asked for; it remembers what it worked out."""
        return engine_of(self)

    @property
    def beside(self) -> BesideDtypes:
        """The dtypes of what lies beside keys and values."""
        return BesideDtypes(
            mamba_cache_dtype=self.mamba_cache_dtype,
            mamba_ssm_cache_dtype=self.mamba_ssm_cache_dtype,
            index_cache_dtype=self.index_cache_dtype,
        )

    def _check_bounds(self) -> None:
        """Every number of a question is one that its answer can be worked out for exactly."""
        for field, (check, name, most) in _BOUNDS.items():
            value = getattr(self, field)
            if value is not None:
                check(name, value, most)
        if self.layout is not None:
            whole("gpus", self.layout.gpus, MOST_SIZE)

    def _check_beside(self) -> None:
        """What stands beside the model has to be there before anything is said of it."""
        if self.draft_model is None and self.draft_kv_cache_dtype != "auto":
            raise UsageError("draft_kv_cache_dtype needs draft_model: the model that drafts")
        if self.draft_model is not None and self.draft:
            raise UsageError(
                "draft counts the model's own MTP layers, draft_model a second model: a server "
                "drafts with one of them",
                "leave one of them out",
            )
        if self.max_lora_rank not in LORA_RANKS:
            ranks = ", ".join(map(str, LORA_RANKS))
            raise UsageError(
                f"max_lora_rank has to be one that vLLM takes, not {self.max_lora_rank!r}",
                f"one of: {ranks}",
            )
        if self.max_loras is None and self.max_lora_rank != DEFAULT_LORA_RANK:
            raise UsageError("max_lora_rank needs max_loras: how many slots there are")


_BOUNDS: dict[str, tuple[Callable[[str, object, int], int | float], str, int]] = {
    "context_tokens": (whole, "context_tokens", MOST_TOKENS),
    "sequences": (whole, "sequences", MOST_COUNT),
    "max_num_seqs": (whole, "max_num_seqs", MOST_SIZE),
    "max_num_batched_tokens": (whole, "max_num_batched_tokens", MOST_TOKENS),
    "block_size": (whole, "block_size", MOST_SIZE),
    "num_speculative_tokens": (whole, "num_speculative_tokens", MOST_SIZE),
    "num_gpu_blocks_override": (whole, "num_gpu_blocks_override", MOST_COUNT),
    "gpus": (whole, "gpus", MOST_SIZE),
    "max_loras": (whole, "max_loras", MOST_SIZE),
    "kv_offloading_bytes": (whole, "kv_offloading_size", MOST_COUNT),
    "overhead_bytes": (amount, "overhead", MOST_COUNT),
    "kv_cache_memory_bytes": (amount, "kv_cache_memory_bytes", MOST_COUNT),
    "price_per_gpu_hour": (amount, "price", MOST_PRICE),
}
"""How each number of a question is checked, its name as users write it, and the most of it."""


class BesideOptions(TypedDict, total=False):
    """Dtypes of what lies beside keys and values, in vLLM's names."""

    mamba_cache_dtype: str
    mamba_ssm_cache_dtype: str
    index_cache_dtype: str


class Placement(BesideOptions, total=False):
    """On what, in which layout and by whose rules, as users write it, in vLLM's names."""

    gpu: str | Path | Gpu
    gpus: int | None
    dtype: str
    quantization: str | None
    kv_cache_dtype: str
    draft: bool
    draft_model: Model | None
    draft_kv_cache_dtype: str
    max_loras: int | None
    max_lora_rank: int
    kv_offloading_size: int | str | None
    max_num_seqs: int | None
    tensor_parallel_size: int | None
    pipeline_parallel_size: int | None
    data_parallel_size: int | None
    decode_context_parallel_size: int | None
    prefill_context_parallel_size: int | None
    replicas: int | None
    enable_expert_parallel: bool
    pipeline_partition: str | Sequence[int] | None
    gpu_memory_utilization: float | None
    overhead: int | str | None
    kv_cache_memory_bytes: int | str | None
    engine: str
    max_num_batched_tokens: int | None
    block_size: int | None
    attention_backend: str | None
    enable_prefix_caching: bool
    disable_hybrid_kv_cache_manager: bool
    speculative_config: str | Mapping[str, Any] | None
    num_speculative_tokens: int | None
    num_gpu_blocks_override: int | None
    enforce_eager: bool
    limit_mm_per_prompt: str | Mapping[str, Any] | None
    price: float | None
    assume: str | None
    folder: Path


class Options(Placement, total=False):
    """A whole question as users write it; what is left out is found or a default."""

    context_tokens: int | str | None
    """None, ``auto`` or -1 for the longest that fits."""
    sequences: int | None


def ask(models: Sequence[Model], **options: Unpack[Options]) -> Question:
    """The question in these words: ``ask(["llama3-70b"], context_tokens="32k", gpu="h200")``.

    ``folder`` is where relative files are looked for. Raises KvplanError for a name, a unit or a
    layout that cannot be understood.
    """
    if isinstance(models, str | Path | ModelSpec):
        raise UsageError("models is a list of models, one or more", 'write ["llama3-70b"]')
    folder, gpu = options.get("folder"), options.get("gpu", DEFAULT_GPU)
    specs = tuple(as_spec(model, options.get("assume"), folder) for model in models)
    options = with_drafting(options, specs)
    drafter, limits = options.get("draft_model"), options.get("limit_mm_per_prompt")
    backend = options.get("attention_backend")
    return Question(
        models=specs,
        gpu=gpu if isinstance(gpu, Gpu) else load_gpu(gpu, folder),
        context_tokens=_context(options.get("context_tokens")),
        layout=_layout(options),
        draft_model=None if drafter is None else as_spec(drafter, None, folder),
        attention_backend=(
            None if backend is None else named("attention_backend", parse_backend)(backend)
        ),
        limit_mm_per_prompt=None if limits is None else read_mm_limits(limits),
        kv_offloading_bytes=_bytes("kv_offloading_size", options.get("kv_offloading_size")),
        overhead_bytes=_bytes("overhead", options.get("overhead")),
        kv_cache_memory_bytes=_bytes("kv_cache_memory_bytes", options.get("kv_cache_memory_bytes")),
        price_per_gpu_hour=options.get("price"),
        gpu_memory_utilization=_utilization(options),
        **{name: options[name] for name in _AS_WRITTEN if name in options},  # type: ignore[literal-required]
    )


_AS_WRITTEN = frozenset(field.name for field in fields(Question)) & (
    frozenset(Options.__annotations__)
    - {"context_tokens", "gpu", "draft_model", "gpu_memory_utilization", "kv_cache_memory_bytes"}
    - {"attention_backend", "limit_mm_per_prompt"}
)
"""Options that are a question's fields just as users write them."""


def _utilization(options: Options) -> float:
    """As given, else what the engine's version uses."""
    given = options.get("gpu_memory_utilization")
    return default_utilization(options.get("engine", NONE)) if given is None else given


def with_context(question: Question) -> Question:
    """The question with the context that is taken where none is given.

    128k, or the longest that the engine serves of every model.
    """
    if question.context_tokens is not None:
        return question
    served = map(question.accounting.longest_context, question.models)
    bounds = [tokens for tokens in served if tokens is not None]
    return replace(question, context_tokens=min((DEFAULT_CONTEXT, *bounds)))


def _layout(options: Options) -> Layout | None:
    degrees = {name: options.get(name) for name in DEGREES}
    partition = options.get("pipeline_partition")
    return layout_of(
        cast("dict[str, int | None]", degrees),
        options.get("gpus"),
        expert_parallel=options.get("enable_expert_parallel", False),
        partition=() if partition is None else _partition(partition),
    )


def as_spec(model: Model, assume: str | None = None, folder: Path | None = None) -> ModelSpec:
    """The model of this name or file, or the spec itself."""
    return model if isinstance(model, ModelSpec) else load(model, assume, folder)


def _context(value: int | str | None) -> int | None:
    """The tokens; None, to be found, for ``auto``."""
    if value in (None, AUTO_CONTEXT) or (isinstance(value, str) and is_auto(value)):
        return None
    return as_tokens("context_tokens", value)


def as_tokens(name: str, value: int | str) -> int:
    """Tokens from ``"128k"`` or an int. Raises UsageError for anything else."""
    tokens = named(name, parse_tokens)(value) if isinstance(value, str) else value
    return whole(name, tokens, MOST_TOKENS)


def _bytes(name: str, value: int | str | None) -> int | None:
    if isinstance(value, str):
        return named(name, parse_bytes)(value)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
        raise UsageError(f"{name} has to be a whole number of bytes, not {value!r}", "write 3GiB")
    return value


def _partition(layers: str | Sequence[int]) -> tuple[int, ...]:
    if isinstance(layers, str):
        return named("pipeline_partition", parse_layers)(layers)
    if not layers:
        raise UsageError("pipeline_partition has no stage", "write 33,28")
    return tuple(positive("pipeline_partition", stage) for stage in layers)


def with_drafting(options: Options, specs: tuple[ModelSpec, ...]) -> Options:
    """The options with ``speculative_config`` read: who drafts, and how many tokens.

    Where an engine is asked and no number is given, that of the model's own MTP layers is vLLM
    0.33.0's (config/speculative.py: n_predict). Raises UsageError for two answers to one question.
    """
    given = options.get("speculative_config")
    read: dict[str, Any] = {}
    if given is not None:
        for name in ("draft", "draft_model", "num_speculative_tokens"):
            if options.get(name):
                hint = f"leave {name} out"
                raise UsageError(f"speculative_config and {name} say the same twice", hint)
        read = _drafting(read_speculation(given), options, specs)
    merged = cast("Options", {**options, **read})
    engine, count = merged.get("engine", NONE), merged.get("num_speculative_tokens")
    drafts = merged.get("draft") or merged.get("draft_model") is not None
    if (
        count is not None
        or not (drafts or given is not None)
        or engine_version(engine).name == NONE
    ):
        return merged
    layers = {sum(group.layers or 0 for group in spec.draft) for spec in specs}
    if not merged.get("draft") or len(layers) > 1 or 0 in layers:
        raise UsageError(
            "num_speculative_tokens is needed: how many tokens are drafted", "such as 3"
        )
    merged["num_speculative_tokens"] = layers.pop()
    return merged


def _drafting(said: Speculation, options: Options, specs: tuple[ModelSpec, ...]) -> dict[str, Any]:
    """What a speculative_config says, as options of a question."""
    read: dict[str, Any] = {
        "speculative_config": said.text,
        "num_speculative_tokens": said.num_speculative_tokens,
        "draft": said.drafter == "layers",
    }
    if said.model is not None:
        model = as_spec(said.model, None, options.get("folder"))
        is_own = all(model == spec for spec in specs)
        if said.drafter == "layers" and not is_own:
            raise RefusedError(
                f"speculative_config: MTP layers are counted in their own model, not {said.model}"
            )
        read |= {"draft": True} if is_own else {"draft_model": model}
    if said.kv_cache_dtype != "auto":
        read["draft_kv_cache_dtype"] = said.kv_cache_dtype
    return read
