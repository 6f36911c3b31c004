"""Words and records that several views share."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from kvplan.calc import Footprint
from kvplan.gpu import Gpu
from kvplan.parallel import Layout
from kvplan.planner.plan import Plan
from kvplan.planner.runner_up import RunnerUp
from kvplan.report import NO_LIMIT
from kvplan.spec import ModelSpec
from kvplan.units import gib, json_number
from kvplan.views.beside import beside_caveats, drafter_caveats, lora_caveats


def gpu_basis(gpu: Gpu) -> str:
    """How far the memory of a GPU is to be trusted, in the contract's words."""
    return "measured" if gpu.memory_basis in ("measured", "torch-log") else "assumed"


def gpu_record(gpu: Gpu) -> dict[str, Any]:
    """A GPU as the inputs of an answer name it."""
    return {
        "name": gpu.name,
        "memory_bytes": gpu.memory_bytes,
        "basis": gpu_basis(gpu),
        "memory_basis": gpu.memory_basis,
        "rates_basis": gpu.rates_basis if gpu.bandwidth_bytes_per_s else None,
    }


def layout_record(layout: Layout, spec: ModelSpec | None = None) -> dict[str, Any]:
    """A layout under the contract's keys; of a model, with the layers of its pipeline stages."""
    stages = layout.partition or (spec and spec.stage_layers(layout.pipeline)) or None
    return {
        "name": layout.name,
        "gpus": layout.gpus,
        "tensor_parallel": layout.tensor,
        "pipeline_parallel": layout.pipeline,
        "data_parallel": layout.data,
        "decode_context_parallel": layout.context,
        "prefill_context_parallel": layout.prefill,
        "replicas": layout.replicas,
        "expert_parallel": layout.expert_parallel,
        "pipeline_layers": stages and list(stages),
    }


def model_record(spec: ModelSpec, cache: Footprint) -> dict[str, Any]:
    """A model's own facts under the contract's keys."""
    return {
        "name": spec.name,
        "source": spec.source,
        "native_context_tokens": spec.native_context_tokens,
        "layers": spec.total_layers,
        "cached_layers": spec.cached_layers,
        "kv_cache_dtype": cache.kv_cache_dtype,
        "bytes_per_token": json_number(cache.bytes_per_token),
        "fixed_bytes_per_sequence": cache.fixed_bytes_per_sequence,
        "cross_attention_bytes_per_sequence": cache.cross_attention_bytes_per_sequence,
        "parameters": _parameters(spec),
        "weights_bytes": spec.weights_bytes,
        "not_counted": list(spec.not_counted),
    }


def _parameters(spec: ModelSpec) -> dict[str, int | None]:
    parameters = spec.parameters
    if parameters is None:
        return dict.fromkeys(("total", "active", "language", "towers"))
    return {
        "total": parameters.total,
        "active": parameters.active,
        "language": parameters.of_language,
        "towers": parameters.of_towers,
    }


def gpus_in_words(plan: Plan) -> str:
    """The GPUs of a plan and their layout: ``2 × h200-sxm-141gb (TP2)``."""
    return f"{plan.layout.gpus} × {plan.gpu.name} ({plan.layout.name})"


_RUN = 3
"""Equal stages in a row that are counted instead of listed."""


def stages_in_words(layers: Iterable[int]) -> str:
    """Layers of each stage, three or more of a size together: ``1 + 17 × 2 + 1``."""
    runs = [list(run) for _, run in groupby(layers)]
    return " + ".join(
        f"{len(run)} × {run[0]}" if len(run) >= _RUN else " + ".join(map(str, run)) for run in runs
    )


def caveats(plan: Plan) -> tuple[str, ...]:
    """What has to be known of a plan's figures before they are believed."""
    texts = [*plan.served.notes]
    divided = plan.layout.tensor * plan.layout.pipeline > 1
    texts += cache_caveats(
        plan.spec,
        plan.budget.cache,
        draft=plan.question.draft,
        where=" on each GPU" if divided else "",
    )
    if any(row.part is None for row in plan.spec.weights):
        texts.append("the spec names no parts of the weights: all are split evenly")
    texts += drafter_caveats(plan)
    texts += lora_caveats(plan)
    return tuple(texts)


def cache_caveats(
    spec: ModelSpec, cache: Footprint, *, draft: bool, where: str = ""
) -> tuple[str, ...]:
    """What is to be said beside any answer that sizes this model at this context."""
    texts = list(spec.assumptions)
    if spec.not_counted and spec.weights_bytes is not None:
        left_out = ", ".join(spec.not_counted)
        texts.append(f"weights leave out what could not be counted: {left_out}")
    native = spec.native_context_tokens
    if native is not None and cache.context_tokens > native:
        texts.append(
            f"{cache.context_tokens:,} tokens is beyond its native context of {native:,}; "
            "sized all the same"
        )
    if cache.cross_attention_bytes_per_sequence:
        texts.append(
            f"the cache includes cross-attention for one full encoder input a sequence "
            f"({gib(cache.cross_attention_bytes_per_sequence)}{where})"
        )
    texts += format_caveats(cache.own)
    texts += beside_caveats(cache.own)
    if draft and spec.draft and not spec.draft_weights:
        texts.append("draft layers are in the cache, their weights are not in the weights")
    if draft and not spec.draft:
        texts.append("the spec names no draft layers, so none are counted")
    return tuple(texts)


def format_caveats(cache: Footprint) -> tuple[str, ...]:
    """What engines do otherwise with this KV dtype than the plain arithmetic does."""
    dtype = cache.kv_cache_dtype
    roles = {slot.role for line in cache.lines for slot in line.slots}
    if "latent" not in roles:
        return ()
    sparse = "index_key" in roles
    if sparse and "rope_key" in roles and dtype in ("fp8", "fp8_e4m3"):
        kept = "vLLM and SGLang on Hopper keep this model's as fp8_ds_mla (656 B an entry)"
        return (f"{dtype} is counted as plain fp8; {kept}",)
    if not sparse and dtype.endswith("_ds_mla"):
        return (f"{dtype} is a layout for sparse attention; engines refuse it for this model",)
    if dtype == "nvfp4":
        return ("nvfp4 latents: SGLang and TensorRT-LLM have them, vLLM 0.33.0 does not",)
    return ()


def against(runner: RunnerUp, plan: Plan) -> str:
    """The runner-up and why it lost, in a sentence."""
    name, other = gpus_in_words(runner.plan), runner.plan
    match runner.reason:
        case "idle ranks":
            why = "has more data-parallel ranks than sequences"
        case "redundant experts":
            why = "its experts do not divide evenly"
        case "pipeline stages":
            why = "needs pipeline stages, which every token has to pass one after the other"
        case "slower" if other.step and plan.step:
            ours, theirs = (f"{each.tokens_per_second or 0:,.0f}" for each in (plan, other))
            why = f"an estimated {theirs} tokens/s instead of {ours}"
        case _:
            held = NO_LIMIT if other.tokens is None else f"{other.tokens:,} tokens"
            why = f"holds {held}" if other.tokens != plan.tokens else "the same by estimate"
    return f"{name}: {why}"


def by_text(texts: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Each (model, text) once, after the names of all models that it is about."""
    names: dict[str, list[str]] = {}
    for name, text in texts:
        names.setdefault(text, []).append(name)
    return tuple(f"{', '.join(models)}: {text}" for text, models in names.items())


_ENGINES = {"vllm": "vLLM"}
"""Engines whose name is not written as ``--engine`` has it."""


def engine_in_words(plan: Plan) -> str:
    """The engine and its version: ``vLLM 0.33.0``."""
    name = _ENGINES.get(plan.engine.name, plan.engine.name)
    return f"{name} {plan.engine.version}" if plan.engine.version else name
