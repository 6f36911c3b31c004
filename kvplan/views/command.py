"""The command that realises a plan: as a shell takes it, and as a Kubernetes container has it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from kvplan.dtypes import AUTO
from kvplan.engines.versions import default_utilization
from kvplan.engines.vllm.arguments import check_version
from kvplan.engines.vllm.command import HEAD, Launch, Process, Value, processes
from kvplan.engines.vllm.context import check_context
from kvplan.errors import RefusedError, UsageError
from kvplan.formats import cache_format
from kvplan.gpu import Gpu
from kvplan.planner.plan import Plan
from kvplan.question import DEFAULT_LORA_RANK, Question
from kvplan.units import GIB, plural

_NODE_GPUS = 8
"""GPUs of a node where they are not known."""
_ONLINE = "fp8"
"""What vLLM 0.33.0 quantises a 16-bit checkpoint to when it loads it, under kvplan's own name."""
_INDEXER = {"fp4": "mxfp4"}
_KV_DTYPES = {"bf16": "bfloat16", "fp16": "float16"}
"""KV dtypes whose name in vLLM is not kvplan's."""
_OF_AMD = ("mi", "rx-", "r9700", "strix-halo")
"""How names of AMD's cards begin."""


@dataclass(frozen=True)
class Names:
    """The model and its drafter as vLLM finds them: Hugging Face ids, or folders."""

    model: str
    draft_model: str | None = None


@dataclass(frozen=True)
class Command:
    """What is printed: the command of the first node, and what has to be known of the others."""

    text: str
    notes: tuple[str, ...]


def shell_command(plan: Plan, names: Names) -> Command:
    """The plan as a line of a shell. Raises KvplanError where no command can realise it."""
    first, *others = processes(_launch(plan, names))
    count = len(others) + 1
    notes = [
        f"on node {number} of {count} run: {process.line}"
        for number, process in enumerate(others, start=2)
    ]
    return Command(f"{first.line}\n", (*_notes(plan, first, count), *notes))


def container(plan: Plan, names: Names) -> Command:
    """The plan as part of a Kubernetes container, in YAML. Raises KvplanError."""
    first, *others = processes(_launch(plan, names))
    count = len(others) + 1
    notes = [
        f"the container on node {number} of {count} has the args: {json.dumps(_args(process))}"
        for number, process in enumerate(others, start=2)
    ]
    return Command(_yaml(first, plan), (*_notes(plan, first, count), *notes))


def _yaml(process: Process, plan: Plan) -> str:
    """A container's command, arguments, environment and GPUs; every text is quoted."""
    lines = ['command: ["vllm", "serve"]', "args:"]
    lines += [f"  - {json.dumps(word)}" for word in _args(process)]
    if process.environment:
        lines.append("env:")
    for name, value in process.environment.items():
        lines += [f"  - name: {name}", f"    value: {json.dumps(value)}"]
    lines += ["resources:", "  limits:", f'    {_maker(plan.gpu)}/gpu: "{process.gpus}"']
    return "".join(f"{line}\n" for line in lines)


def _maker(gpu: Gpu) -> str:
    """Whose device plugin names the GPUs; NVIDIA's for a card of which only the memory is known.

    Raises RefusedError for other accelerators.
    """
    if gpu.compute_capability or gpu.memory_basis == "given":
        return "nvidia.com"
    if gpu.name.startswith(_OF_AMD):
        return "amd.com"
    raise RefusedError(
        f"what Kubernetes calls {gpu.name} is not known", "--emit prints the command for a shell"
    )


def _args(process: Process) -> list[str]:
    pairs = process.arguments
    return [process.model, *(n if value is None else f"{n}={value}" for n, value in pairs)]


def _notes(plan: Plan, first: Process, nodes: int) -> list[str]:
    notes = []
    replicas = plan.layout.of(plan.spec).replicas
    if replicas > 1:
        notes.append(
            f"the plan has {plural(replicas, 'replica')}: start the server so many times, each on "
            f"{plural(first.gpus * nodes, 'GPU')} of its own"
        )
    if nodes > 1:
        notes.append(
            f"this is the first of {nodes} nodes of {plural(first.gpus, 'GPU')}: put its address "
            f"in the place of {HEAD}"
        )
    if plan.question.overhead_bytes is not None:
        notes.append("overhead is what you measured; vLLM measures its own when it starts")
    if plan.gpu.memory_basis == "given":
        notes.append(f"the maker of {plan.gpu.name} is not known: a card for CUDA is assumed")
    return notes


def _launch(plan: Plan, names: Names) -> Launch:
    question = plan.question
    check_version(plan.engine.version)
    check_context(question.models[0], plan.context_tokens)
    for name in filter(None, (names.model, names.draft_model)):
        if not name.isprintable():
            raise UsageError(f"{name!a} has characters that no command can be printed with")
    options: dict[str, Value | None] = {
        "max-model-len": plan.context_tokens,
        "max-num-seqs": _max_num_seqs(plan),
        "dtype": _unless(AUTO, question.dtype),
        "quantization": _quantization(plan),
        "kv-cache-dtype": _kv_dtype(question.kv_cache_dtype),
        "mamba-cache-dtype": _unless(AUTO, question.mamba_cache_dtype),
        "mamba-ssm-cache-dtype": _unless(AUTO, question.mamba_ssm_cache_dtype),
        "attention-config": _indexer(question.index_cache_dtype),
        "gpu-memory-utilization": _utilization(question),
        "kv-cache-memory-bytes": _whole(question.kv_cache_memory_bytes),
        "kv-offloading-size": _gibibytes(question.kv_offloading_bytes),
        "enable-lora": question.max_loras is not None,
        "max-loras": question.max_loras if question.max_loras != 1 else None,
        "max-lora-rank": (
            question.max_lora_rank if question.max_lora_rank != DEFAULT_LORA_RANK else None
        ),
        "speculative-config": _speculation(question, names),
    }
    return Launch(
        model=names.model,
        layout=plan.layout.of(plan.spec),
        settings=question,
        options=options,
        node_gpus=plan.gpu.gpus_per_node or _NODE_GPUS,
    )


def _kv_dtype(name: str) -> str | None:
    """The KV dtype under vLLM's name; None for auto."""
    if name == AUTO:
        return None
    own = cache_format(name).name
    return _KV_DTYPES.get(own, own)


def _unless(default: str, value: str) -> str | None:
    return None if value == default else value


def _utilization(question: Question) -> float | None:
    share = question.gpu_memory_utilization
    return None if share == default_utilization(question.engine) else share


def _max_num_seqs(plan: Plan) -> int | None:
    """The cap that was given; else what vLLM's own would stop at, or not start with.

    A load above the default would wait, and a hybrid has a block for each sequence.
    """
    pages, given = plan.budget.pages, plan.question.max_num_seqs
    if given is not None or pages is None:
        return given
    default = pages.pool.max_num_seqs(plan.context_tokens)
    if pages.pool.state_pages and not plan.question.enforce_eager and plan.page_count:
        default_starts = default <= plan.page_count
        return None if default_starts else plan.page_count
    running = plan.budget.cache.sequences
    return running if running > default else None


def _quantization(plan: Plan) -> str | None:
    """Raises UsageError for a hypothesis that vLLM does not make true when it loads the model."""
    name = plan.question.quantization
    if name is None or name == _ONLINE:
        return name
    raise UsageError(
        f"vLLM does not quantise to {name} when it loads a model: no command realises the plan",
        "name a checkpoint that is quantised, and leave quantization out",
    )


def _indexer(dtype: str) -> Mapping[str, str] | None:
    if dtype == AUTO:
        return None
    word = _INDEXER.get(dtype, dtype)
    if word not in ("bf16", "fp8", "mxfp4", "nvfp4"):
        raise UsageError(f"vLLM has no index_cache_dtype {dtype}", "it has bf16, fp8, mxfp4")
    return {"indexer_kv_dtype": word}


def _whole(size_bytes: float | None) -> int | None:
    return None if size_bytes is None else int(size_bytes)


def _gibibytes(size_bytes: int | None) -> int | float | None:
    if size_bytes is None:
        return None
    return size_bytes // GIB if size_bytes % GIB == 0 else size_bytes / GIB


def _speculation(question: Question, names: Names) -> Mapping[str, Value] | None:
    """As it was given, with the drafter as vLLM finds it; else what drafts, and how many tokens."""
    if question.speculative_config is not None:
        given: dict[str, Value] = json.loads(question.speculative_config)
        return given | ({"model": names.draft_model} if names.draft_model else {})
    count = question.num_speculative_tokens
    if count is None:
        return None
    if question.draft_model is not None:
        config: dict[str, Value] = {"model": names.draft_model or question.draft_model.name}
        if dtype := _kv_dtype(question.draft_kv_cache_dtype):
            config["kv_cache_dtype"] = dtype
    elif question.draft:
        config = {"method": "mtp"}
    else:
        raise UsageError(
            "num_speculative_tokens does not say who drafts",
            'speculative_config does: {"method": "ngram"}',
        )
    return config | {"num_speculative_tokens": count}
