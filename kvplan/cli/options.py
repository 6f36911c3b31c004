"""Options that commands share, each written once: name, unit, default, group and help."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Annotated, Unpack, cast

import typer

from kvplan.cli.engine_options import Serving
from kvplan.cli.values import (
    GPU,
    LAYOUT,
    MEMORY,
    OUTPUT,
    WORKLOAD,
    argument,
    choice,
    context,
    count,
    option,
    size,
)
from kvplan.errors import UsageError
from kvplan.question import (
    DEFAULT_GPU,
    DEFAULT_LORA_RANK,
    Options,
)
from kvplan.units import AUTO_CONTEXT, parse_decimal, parse_layers

_KINDS = "full_attention, sliding_window, mla, layer_types or text_config"


def _assumed_kind(text: str) -> str:
    """The kind of cache that ``--assume kind=KIND`` names."""
    key, _, kind = text.partition("=")
    if key != "kind" or not kind.strip():
        hint = f"write --assume kind=KIND: {_KINDS}"
        raise UsageError(f"{text[:60]!r} is not understood", hint)
    return kind


def _stages(text: str) -> str:
    parse_layers(text)
    return text


Models = Annotated[list[str], argument("MODEL...", "Names, Hugging Face ids or files: ./NAME.")]
Model = Annotated[str, argument("MODEL", "Name, Hugging Face id or file: ./NAME.")]
Assume = Annotated[
    str | None,
    option(
        "--assume",
        metavar="kind=KIND",
        read=_assumed_kind,
        panel=WORKLOAD,
        help_=f"Read a config.json, as a rule an unknown one, as {_KINDS}.",
    ),
]
KVDtype = Annotated[
    str,
    option(
        "--kv-cache-dtype",
        metavar="DTYPE",
        panel=MEMORY,
        help_="KV cache dtype, in vLLM's names; kvplan list formats shows them.",
    ),
]
MambaDType = Annotated[
    str,
    option(
        "--mamba-cache-dtype",
        metavar="DTYPE",
        panel=MEMORY,
        help_="Tails of convolutions, and states whose dtype nothing else says: auto, float32, "
        "float16, bfloat16.",
    ),
]
StateDtype = Annotated[
    str,
    option(
        "--mamba-ssm-cache-dtype",
        metavar="DTYPE",
        panel=MEMORY,
        help_="Recurrent states: auto, float32, float16, bfloat16.",
    ),
]
IndexDtype = Annotated[
    str,
    option(
        "--index-cache-dtype",
        "--indexer-kv-dtype",
        metavar="DTYPE",
        panel=MEMORY,
        help_="Keys of a sparse indexer: auto, fp8, mxfp4 (fp4), bf16, or a llama.cpp type.",
    ),
]
Dtype = Annotated[
    str,
    option(
        "--dtype",
        metavar="DTYPE",
        panel=MEMORY,
        help_="Weights that are not quantised: auto, bfloat16, float16, float32.",
    ),
]
Quantization = Annotated[
    str | None,
    option(
        "--quantization",
        metavar="NAME",
        panel=MEMORY,
        help_="What if a 16-bit checkpoint were quantised: fp8, int4, nvfp4, mxfp4, q4_k "
        "and so on.",
    ),
]
Draft = Annotated[
    bool,
    typer.Option(
        "--draft", rich_help_panel=WORKLOAD, help="Count the draft (MTP) layers' cache too."
    ),
]
Context = Annotated[
    int | None,
    context(
        "--ctx",
        "--max-model-len",
        panel=WORKLOAD,
        help_="Tokens of a sequence: 131072, 128k, 1M; auto is the longest that fits.",
    ),
]
Sequences = Annotated[
    int | None,
    count("--sequences", panel=WORKLOAD, help_="Sequences of that length at once, over all GPUs."),
]
MaxNumSeqs = Annotated[
    int | None,
    count(
        "--max-num-seqs",
        panel=WORKLOAD,
        help_="vLLM's cap of sequences that run at once, a data-parallel rank.",
    ),
]
Gpu = Annotated[
    str,
    option(
        "--gpu",
        metavar="GPU",
        panel=GPU,
        help_="GPU of kvplan list gpus, its memory alone (24GiB), or a file.",
    ),
]
TensorParallel = Annotated[
    int | None,
    count("--tensor-parallel-size", "-tp", panel=LAYOUT, help_="GPUs of a tensor-parallel group."),
]
PipelineParallel = Annotated[
    int | None,
    count("--pipeline-parallel-size", "-pp", panel=LAYOUT, help_="Pipeline stages of layers."),
]
DataParallel = Annotated[
    int | None,
    count(
        "--data-parallel-size",
        "-dp",
        panel=LAYOUT,
        help_="Data-parallel ranks; they share routed experts, a dense model's are replicas.",
    ),
]
Replicas = Annotated[
    int | None,
    count("--replicas", panel=LAYOUT, help_="Independent copies of the server."),
]
ContextParallel = Annotated[
    int | None,
    count(
        "--decode-context-parallel-size",
        "-dcp",
        panel=LAYOUT,
        help_="GPUs that share the entries of a cache.",
    ),
]
PrefillParallel = Annotated[
    int | None,
    count(
        "--prefill-context-parallel-size",
        "-pcp",
        panel=LAYOUT,
        help_="Groups that share each prompt's tokens.",
    ),
]


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
        option(
            "--draft-model",
            metavar="MODEL",
            panel=WORKLOAD,
            help_="A second model that drafts: name or file (EAGLE-3, DFlash, a small model).",
        ),
    ] = None
    draft_kv_cache_dtype: Annotated[
        str,
        option(
            "--draft-kv-cache-dtype",
            metavar="DTYPE",
            panel=MEMORY,
            help_="KV cache dtype of the draft model; its own auto where none is given.",
        ),
    ] = "auto"


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """Which GPUs, and how many."""

    gpu: Gpu = DEFAULT_GPU
    gpus: Annotated[
        int | None,
        count("--gpus", panel=GPU, help_="GPUs there are."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Degrees:
    """A layout by its degrees; what is left out is 1."""

    tensor_parallel_size: TensorParallel = None
    pipeline_parallel_size: PipelineParallel = None
    data_parallel_size: DataParallel = None
    decode_context_parallel_size: ContextParallel = None
    prefill_context_parallel_size: PrefillParallel = None
    replicas: Replicas = None
    enable_expert_parallel: Annotated[
        bool,
        typer.Option(
            "--enable-expert-parallel",
            "-ep",
            rich_help_panel=LAYOUT,
            help="Whole experts on each GPU.",
        ),
    ] = False
    pipeline_partition: Annotated[
        str | None,
        option(
            "--pipeline-partition",
            metavar="N,N...",
            read=_stages,
            panel=LAYOUT,
            help_="Layers of each pipeline stage: 33,28 (vLLM's VLLM_PP_LAYER_PARTITION).",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Server:
    """How a server holds the model, and what it may use of each GPU."""

    dtype: Dtype = "auto"
    quantization: Quantization = None
    gpu_memory_utilization: Annotated[
        float | None,
        option(
            "--gpu-memory-utilization",
            metavar="SHARE",
            read=parse_decimal,
            panel=MEMORY,
            help_="Share of each GPU that may be used: 0.92, or an older vLLM's own default.",
        ),
    ] = None
    overhead: Annotated[
        int | None,
        size(
            "--overhead",
            panel=MEMORY,
            help_="Activations, graphs and process as measured: 3GiB.",
        ),
    ] = None
    kv_cache_memory_bytes: Annotated[
        int | None,
        size(
            "--kv-cache-memory-bytes",
            panel=MEMORY,
            help_="Room for caches, outright.",
        ),
    ] = None
    kv_offloading_size: Annotated[
        int | None,
        size(
            "--kv-offloading-size",
            panel=MEMORY,
            help_="Host memory for caches, of all tensor-parallel GPUs together: 44GiB.",
        ),
    ] = None
    max_loras: Annotated[
        int | None,
        count("--max-loras", panel=WORKLOAD, help_="Slots for LoRA adapters, as vLLM has them."),
    ] = None
    max_lora_rank: Annotated[
        int,
        count("--max-lora-rank", panel=WORKLOAD, help_="Rank of a slot."),
    ] = DEFAULT_LORA_RANK
    max_num_seqs: MaxNumSeqs = None


class Output(StrEnum):
    """What ``--format`` takes."""

    TABLE = "table"
    JSON = "json"
    MARKDOWN = "markdown"
    CSV = "csv"


Json = Annotated[
    bool, typer.Option("--json", rich_help_panel=OUTPUT, help="Short for --format json.")
]


@dataclass(frozen=True, kw_only=True)
class Screen:
    """How much of an answer is shown."""

    wide: Annotated[
        bool,
        typer.Option("--wide", rich_help_panel=OUTPUT, help="Every column, however narrow it is."),
    ] = False
    quiet: Annotated[
        bool,
        typer.Option("--quiet", "-q", rich_help_panel=OUTPUT, help="The answer alone."),
    ] = False
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose", "-v", rich_help_panel=OUTPUT, help="What the figures rest on, in full."
        ),
    ] = False


@dataclass(frozen=True, kw_only=True)
class Display(Screen):
    """How to print the answer."""

    output: Annotated[
        Output,
        choice(
            "--format",
            metavar="FORMAT",
            among=Output,
            panel=OUTPUT,
            help_="How to print the answer",
        ),
    ] = Output.TABLE
    json: Json = False

    @property
    def format(self) -> str:
        """The format that is meant."""
        return "json" if self.json else self.output.value


def as_options(
    *groups: Load | Hardware | Degrees | Server | Serving, **others: Unpack[Options]
) -> Options:
    """The groups' values under the names that ``question.ask`` takes, and others beside them."""
    values = {field.name: getattr(group, field.name) for group in groups for field in fields(group)}
    return cast("Options", {**values, **others})


def check_context(load: Load, command: str) -> None:
    """Raises UsageError for ``--ctx auto``: this command's answers are for one context."""
    if load.context_tokens == AUTO_CONTEXT:
        raise UsageError(
            f"--ctx auto is the longest that fits, and {command} is for one context",
            "kvplan plan finds it; here write --ctx 32k, or leave it out",
        )
