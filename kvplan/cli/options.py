"""Options that commands share, each written once: name, unit, default, group and help."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Annotated, Any, Unpack, cast

import typer

from kvplan.errors import UsageError
from kvplan.question import (
    DEFAULT_GPU,
    DEFAULT_LORA_RANK,
    DEFAULT_UTILIZATION,
    ENGINES,
    Options,
)

_LOAD, _GPUS, _LAYOUT, _SERVER, _ANSWER = "Load", "GPUs", "Layout", "Server", "Answer"


def _count(*flags: str, panel: str, help_: str) -> Any:
    """An option that takes a whole number, one or more."""
    return typer.Option(*flags, metavar="N", min=1, rich_help_panel=panel, help=help_)


def _text(*flags: str, metavar: str, panel: str, help_: str) -> Any:
    """An option that is read later: a name, a size with its unit."""
    return typer.Option(*flags, metavar=metavar, rich_help_panel=panel, help=help_)


Models = Annotated[
    list[str], typer.Argument(metavar="MODEL...", help="Names, Hugging Face ids or files.")
]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="Name, Hugging Face id or file.")]
_KINDS = "full_attention, sliding_window, mla, layer_types or text_config"
Assume = Annotated[
    str | None,
    typer.Option(
        "--assume",
        metavar="kind=KIND",
        help=f"Read a config.json, as a rule an unknown one, as {_KINDS}.",
    ),
]
KVDtype = Annotated[
    str,
    typer.Option(
        "--kv-cache-dtype",
        metavar="DTYPE",
        rich_help_panel=_LOAD,
        help="KV cache dtype, in vLLM's names; kvplan list formats shows them.",
    ),
]
MambaDType = Annotated[
    str,
    _text(
        "--mamba-cache-dtype",
        metavar="DTYPE",
        panel=_LOAD,
        help_="Tails of convolutions, and states whose dtype nothing else says: auto, float32, "
        "float16, bfloat16.",
    ),
]
StateDtype = Annotated[
    str,
    _text(
        "--mamba-ssm-cache-dtype",
        metavar="DTYPE",
        panel=_LOAD,
        help_="Recurrent states: auto, float32, float16, bfloat16.",
    ),
]
IndexDtype = Annotated[
    str,
    _text(
        "--index-cache-dtype",
        "--indexer-kv-dtype",
        metavar="DTYPE",
        panel=_LOAD,
        help_="Keys of a sparse indexer: auto, fp8, mxfp4 (fp4), bf16, or a llama.cpp type.",
    ),
]
Dtype = Annotated[
    str,
    typer.Option(
        "--dtype",
        metavar="DTYPE",
        rich_help_panel=_SERVER,
        help="Weights that are not quantised: auto, bfloat16, float16, float32.",
    ),
]
Quantization = Annotated[
    str | None,
    typer.Option(
        "--quantization",
        metavar="NAME",
        rich_help_panel=_SERVER,
        help="What if a 16-bit checkpoint were quantised: fp8, int4, nvfp4, mxfp4, q4_k and so on.",
    ),
]
Draft = Annotated[
    bool,
    typer.Option("--draft", rich_help_panel=_LOAD, help="Count the draft (MTP) layers' cache too."),
]
Context = Annotated[
    str | None,
    typer.Option(
        "--ctx",
        "--max-model-len",
        metavar="TOKENS",
        rich_help_panel=_LOAD,
        help="Tokens of a sequence: 131072, 128k, 1M.",
    ),
]
Sequences = Annotated[
    int | None,
    _count("--sequences", panel=_LOAD, help_="Sequences of that length at once, over all GPUs."),
]
MaxNumSeqs = Annotated[
    int | None,
    _count(
        "--max-num-seqs",
        panel=_SERVER,
        help_="vLLM's cap of sequences that run at once, a data-parallel rank.",
    ),
]
Gpu = Annotated[
    str,
    typer.Option(
        "--gpu",
        metavar="GPU",
        rich_help_panel=_GPUS,
        help="GPU of kvplan list gpus, its memory alone (24GiB), or a file.",
    ),
]
TensorParallel = Annotated[
    int | None,
    _count(
        "--tensor-parallel-size", "-tp", panel=_LAYOUT, help_="GPUs of a tensor-parallel group."
    ),
]
PipelineParallel = Annotated[
    int | None,
    _count("--pipeline-parallel-size", "-pp", panel=_LAYOUT, help_="Pipeline stages of layers."),
]
DataParallel = Annotated[
    int | None,
    _count(
        "--data-parallel-size",
        "-dp",
        panel=_LAYOUT,
        help_="Data-parallel ranks; they share routed experts, a dense model's are replicas.",
    ),
]
Replicas = Annotated[
    int | None,
    _count("--replicas", panel=_LAYOUT, help_="Independent copies of the server."),
]
ContextParallel = Annotated[
    int | None,
    _count(
        "--decode-context-parallel-size",
        "-dcp",
        panel=_LAYOUT,
        help_="GPUs that share the entries of a cache.",
    ),
]


class Engine(StrEnum):
    """Whose accounting a plan follows."""

    NONE = ENGINES[0]


@dataclass(frozen=True, kw_only=True)
class Load:
    """What the GPUs have to hold at once."""

    context_tokens: Context = None
    sequences: Sequences = None
    kv_cache_dtype: KVDtype = "auto"
    mamba_cache_dtype: MambaDType = "auto"
    mamba_ssm_cache_dtype: StateDtype = "auto"
    index_cache_dtype: IndexDtype = "auto"
    draft: Draft = False
    draft_model: Annotated[
        str | None,
        _text(
            "--draft-model",
            metavar="MODEL",
            panel=_LOAD,
            help_="A second model that drafts: name or file (EAGLE-3, DFlash, a small model).",
        ),
    ] = None
    draft_kv_cache_dtype: Annotated[
        str,
        _text(
            "--draft-kv-cache-dtype",
            metavar="DTYPE",
            panel=_LOAD,
            help_="KV cache dtype of the draft model; its own auto where none is given.",
        ),
    ] = "auto"


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """Which GPUs, and how many."""

    gpu: Gpu = DEFAULT_GPU
    gpus: Annotated[
        int | None,
        _count("--gpus", panel=_GPUS, help_="GPUs there are."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Degrees:
    """A layout by its degrees; what is left out is 1."""

    tensor_parallel_size: TensorParallel = None
    pipeline_parallel_size: PipelineParallel = None
    data_parallel_size: DataParallel = None
    decode_context_parallel_size: ContextParallel = None
    replicas: Replicas = None
    enable_expert_parallel: Annotated[
        bool,
        typer.Option(
            "--enable-expert-parallel",
            "-ep",
            rich_help_panel=_LAYOUT,
            help="Whole experts on each GPU.",
        ),
    ] = False
    pipeline_partition: Annotated[
        str | None,
        _text(
            "--pipeline-partition",
            metavar="N,N...",
            panel=_LAYOUT,
            help_="Layers of each pipeline stage: 33,28 (vLLM's VLLM_PP_LAYER_PARTITION).",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Server:
    """How a server holds the model, what it may use of each GPU, and whose accounting that is."""

    dtype: Dtype = "auto"
    quantization: Quantization = None
    gpu_memory_utilization: Annotated[
        float,
        typer.Option(
            "--gpu-memory-utilization",
            metavar="SHARE",
            min=0.01,
            max=1.0,
            rich_help_panel=_SERVER,
            help="Share of each GPU that may be used.",
        ),
    ] = DEFAULT_UTILIZATION
    overhead: Annotated[
        str | None,
        typer.Option(
            "--overhead",
            metavar="BYTES",
            rich_help_panel=_SERVER,
            help="Activations, graphs and process as measured: 3GiB.",
        ),
    ] = None
    kv_cache_memory_bytes: Annotated[
        str | None,
        typer.Option(
            "--kv-cache-memory-bytes",
            metavar="BYTES",
            rich_help_panel=_SERVER,
            help="Room for caches, outright.",
        ),
    ] = None
    kv_offloading_size: Annotated[
        str | None,
        _text(
            "--kv-offloading-size",
            metavar="BYTES",
            panel=_SERVER,
            help_="Host memory for caches, of all tensor-parallel GPUs together: 44GiB.",
        ),
    ] = None
    max_loras: Annotated[
        int | None,
        _count("--max-loras", panel=_SERVER, help_="Slots for LoRA adapters, as vLLM has them."),
    ] = None
    max_lora_rank: Annotated[
        int,
        _count("--max-lora-rank", panel=_SERVER, help_="Rank of a slot."),
    ] = DEFAULT_LORA_RANK
    max_num_seqs: MaxNumSeqs = None
    engine: Annotated[
        Engine,
        typer.Option(
            "--engine", rich_help_panel=_SERVER, help="Whose accounting; none is plain arithmetic."
        ),
    ] = Engine.NONE


class Output(StrEnum):
    """What ``--format`` takes."""

    TABLE = "table"
    JSON = "json"
    MARKDOWN = "markdown"
    CSV = "csv"


Json = Annotated[
    bool, typer.Option("--json", rich_help_panel=_ANSWER, help="Short for --format json.")
]


@dataclass(frozen=True, kw_only=True)
class Display:
    """How to print the answer."""

    output: Annotated[
        Output, typer.Option("--format", rich_help_panel=_ANSWER, help="How to print the answer.")
    ] = Output.TABLE
    json: Json = False

    @property
    def format(self) -> str:
        """The format that is meant."""
        return "json" if self.json else self.output.value


def as_options(*groups: Load | Hardware | Degrees | Server, **others: Unpack[Options]) -> Options:
    """The groups' values under the names that ``question.ask`` takes, and others beside them."""
    values = {field.name: getattr(group, field.name) for group in groups for field in fields(group)}
    return cast("Options", {**values, **others})


def assumed_kind(assume: str | None) -> str | None:
    """The kind of cache that ``--assume kind=KIND`` names."""
    if assume is None:
        return None
    key, _, kind = assume.partition("=")
    if key != "kind" or not kind:
        hint = f"write --assume kind=KIND: {_KINDS}"
        raise UsageError(f"--assume {assume[:100]} is not understood", hint)
    return kind
