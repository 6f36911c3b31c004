"""Words and records that several views share; "does not fit" and its remedy are worded here."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from kvplan.calc import Footprint
from kvplan.formats import cache_format
from kvplan.gpu import Gpu
from kvplan.parallel import Layout, redundant_experts
from kvplan.planner.budget import ACTIVATION_SHARE, PROCESS_BYTES, Budget
from kvplan.planner.estimate import LATENCY_SECONDS, NODE_BYTES_PER_SECOND
from kvplan.planner.layouts import LARGEST_GPUS
from kvplan.planner.runner_up import RunnerUp
from kvplan.planner.solve import Plan
from kvplan.spec import ModelSpec
from kvplan.units import gib, json_number, plural
from kvplan.views.beside import beside_caveats, drafter_caveats, lora_caveats

UNKNOWN = "?"
ANY = "any"
"""Where memory sets no bound."""

HALF_OF = 16
"""Bits of the KV dtypes for which fp8 is half."""


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


def shortfall(plan: Plan) -> str:
    """Why the plan does not fit, and what would."""
    budget, where = plan.budget, gpus_in_words(plan)
    if budget.fits:
        ranks = plural(plan.layout.sequence_groups, "data-parallel rank")
        return (
            f"does not run at once: {plural(plan.sequences, 'sequence')} on {ranks} of {where}, "
            f"each of which max_num_seqs stops at {plan.question.max_num_seqs:,}; raise it, or "
            "take more GPUs"
        )
    if budget.room_bytes <= 0:
        given_bytes = plan.question.kv_cache_memory_bytes
        parts = _loaded(budget)
        if given_bytes is not None:
            parts = f"{parts.replace(' and', ',')} and the given {gib(given_bytes)}"
        taken_bytes = budget.allowed_bytes - budget.room_bytes
        advice = f"take more GPUs, or {_lighter(budget)}"
        if budget.overhead_bytes + (given_bytes or 0) >= budget.allowed_bytes:
            advice = "no GPU of this kind has so much: give less"
        return (
            f"does not fit: {parts} take {gib(taken_bytes)} on each of {where}, of which "
            f"{gib(budget.allowed_bytes)} may be used; {advice}"
        )
    problem = (
        f"does not fit: caches need {gib(budget.cache.total_bytes)} on each of {where} and have "
        f"{gib(budget.room_bytes)}"
    )
    return f"{problem}; {remedy(plan)}"


def _loaded(budget: Budget) -> str:
    """What is on a GPU before the first cache, in words."""
    parts = ["weights"]
    parts += ["the draft model's weights"] if budget.draft_weights_bytes else []
    parts += ["LoRA slots"] if budget.lora_bytes else []
    return f"{', '.join(parts)} and overhead"


def _lighter(budget: Budget) -> str:
    """What to make smaller where no cache has room: the largest of what is loaded."""
    sizes = {
        "weights in a smaller dtype": budget.weights_bytes,
        "a smaller draft model": budget.draft_weights_bytes,
        "fewer LoRA slots": budget.lora_bytes,
    }
    return max(sizes, key=lambda advice: sizes[advice])


def remedy(plan: Plan) -> str:
    """What would fit in this layout, and what else to change."""
    fitting = []
    if plan.max_sequences:
        fitting.append(
            f"{plural(plan.max_sequences, 'sequence')} of {plan.context_tokens:,} tokens"
        )
    if plan.max_context_tokens:
        load = plural(plan.sequences, "sequence")
        fitting.append(f"{plan.max_context_tokens:,} tokens for {load}")
    fits = f"what fits: {', or '.join(fitting)}; or " if fitting else ""
    half = ", or an fp8 KV cache" if _is_16_bit(plan.budget.cache.kv_cache_dtype) else ""
    return f"{fits}take more GPUs{half}"


def _is_16_bit(kv_cache_dtype: str) -> bool:
    packing = cache_format(kv_cache_dtype).default
    return packing is not None and packing.bits == HALF_OF


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


def topology(plan: Plan) -> tuple[str, ...]:
    """What of the layout leaves a link domain, and what is assumed of the domain."""
    texts, domain = [], plan.gpu.link_domain
    crossing = plan.layout.crosses(domain)
    if crossing:
        texts.append(f"{crossing} crosses the links between nodes of {domain} GPUs")
    spare = redundant_experts(plan.spec, plan.layout)
    if spare:
        gpus, experts = plan.layout.tensor * plan.layout.data, plan.spec.routed_experts or 0
        texts.append(
            f"{experts} experts do not divide over {gpus} GPUs: the fullest holds "
            f"{(experts + spare) // gpus}, as all do with {spare} redundant experts (vLLM's "
            "num_redundant_experts, SGLang's --ep-num-redundant-experts)"
        )
    if plan.gpu.link_domain_is_assumed and plan.layout.gpus > 1:
        texts.append(f"nodes of {domain} {plan.gpu.name} are assumed: their size is not known")
    asked = plan.question.gpus or plan.question.layout
    if plan.layout.gpus > domain and not asked:
        texts.append(
            f"beyond one node of {domain} GPUs whole nodes are planned, up to {LARGEST_GPUS} GPUs; "
            "--gpus takes any number"
        )
    return tuple(texts)


def decode_notes(plan: Plan) -> tuple[str, ...]:
    """What a plan's estimate of a decode step rests on; nothing where there is none."""
    if plan.step is None:
        return ()
    texts = [decode_note()]
    if plan.drafter is not None:
        texts.append("drafting is not in it: neither the draft model's steps nor what they save")
    if plan.gpu.link_bytes_per_s is None and plan.layout.server_gpus > 1:
        rate = NODE_BYTES_PER_SECOND / 1e9
        texts.append(f"the link of {plan.gpu.name} is not known; {rate:.0f} GB/s are assumed")
    return tuple(texts)


def decode_note() -> str:
    """What the estimate of a decode step rests on."""
    return (
        "a decode step is estimated (assumed): experts touched by uniform routing, weights and "
        "caches read at full bandwidth, collectives at the link rate and "
        f"{LATENCY_SECONDS * 1e6:.0f} µs × log2(GPUs) each; no kernels, no scheduler"
    )


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
            held = "any number" if other.tokens is None else f"{other.tokens:,}"
            why = f"holds {held} tokens" if other.tokens != plan.tokens else "the same by estimate"
    return f"{name}: {why}"


def estimates(plans: Iterable[Plan]) -> tuple[str, ...]:
    """What the overhead of these plans rests on, where nobody gave it; each said once."""
    assumed = (plan for plan in plans if plan.budget.overhead_basis == "assumed")
    return tuple(dict.fromkeys(map(_estimate, assumed)))


def _estimate(plan: Plan) -> str:
    gpu, images = plan.gpu, ""
    if plan.budget.image_bytes:
        size = gib(plan.budget.image_bytes)
        images = f", and {size} for the images that a vision tower is tried with"
    process = f"{gib(PROCESS_BYTES)} a process as measured on an H100"
    if gpu.process_bytes:
        process = f"{gib(gpu.process_bytes)} a process as measured on this card"
    return (
        f"activations, CUDA graphs and the process are an estimate: {process}, "
        f"{ACTIVATION_SHARE:.0%} of the card{images}; --overhead takes the measured figure"
    )


def by_text(texts: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Each (model, text) once, after the names of all models that it is about."""
    names: dict[str, list[str]] = {}
    for name, text in texts:
        names.setdefault(text, []).append(name)
    return tuple(f"{', '.join(models)}: {text}" for text, models in names.items())
