"""What stands beside model and load: the GPU's memory, dtypes, a draft model, adapters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from kvplan.calc import Footprint
from kvplan.dtypes import AUTO
from kvplan.gpu import Gpu
from kvplan.planner.plan import Plan
from kvplan.question import Question
from kvplan.report import Note
from kvplan.spec import ModelSpec
from kvplan.units import gib, plural


def beside_record(question: Question) -> dict[str, Any]:
    """What is asked beside model, load and GPUs, as the inputs of an answer name it."""
    drafter = question.draft_model
    return {
        **asdict(question.beside),
        "draft": question.draft,
        "draft_model": drafter and drafter.name,
        "draft_kv_cache_dtype": question.draft_kv_cache_dtype,
        "max_loras": question.max_loras,
        "max_lora_rank": question.max_lora_rank,
        "kv_offloading_bytes": question.kv_offloading_bytes,
    }


def beside_in_words(question: Question) -> str:
    """The draft model and the adapters of a question, for a title; nothing without any."""
    drafter = f", drafted by {question.draft_model.name}" if question.draft_model else ""
    slots = question.max_loras
    rank = question.max_lora_rank
    return drafter + (f", {plural(slots, 'LoRA slot')} of rank {rank}" if slots else "")


def name_notes(specs: Iterable[ModelSpec | None], gpu: Gpu | None = None) -> tuple[Note, ...]:
    """How names that are not the catalogue's own were read; each said once, and in full."""
    notes = [*(spec.name_note for spec in specs if spec), gpu.name_note if gpu else None]
    return tuple(Note("", note) for note in dict.fromkeys(notes) if note)


def question_notes(question: Question) -> tuple[Note, ...]:
    """The same of everything that a question names."""
    return name_notes((*question.models, question.draft_model), question.gpu)


def host_notes(question: Question) -> tuple[Note, ...]:
    """Where several plans stand side by side, none says what host memory holds."""
    text = "host memory for caches changes nothing here; plan says how many tokens it holds"
    return () if question.kv_offloading_bytes is None else (Note("", text),)


def drafter_caveats(plan: Plan) -> tuple[str, ...]:
    """What is to be said of a draft model, after its name."""
    if plan.drafter is None:
        return ()
    spec, question, context_tokens = plan.drafter.spec, plan.question, plan.context_tokens
    native = spec.native_context_tokens
    texts = [*plan.drafter.notes, *spec.assumptions]
    if question.kv_cache_dtype != AUTO and question.draft_kv_cache_dtype == AUTO:
        dtype = plan.caches.drafter and plan.caches.drafter.kv_cache_dtype
        texts.append(
            f"its cache is counted in {dtype}, its own auto; vLLM gives it the model's "
            f"{question.kv_cache_dtype} unless the speculative config names another"
        )
    if spec.weights_bytes is None:
        texts.append("its weights are not known and not counted")
    elif spec.not_counted:
        texts.append(f"weights leave out what could not be counted: {', '.join(spec.not_counted)}")
    if native is not None and context_tokens > native:
        texts.append(f"{context_tokens:,} tokens is beyond its native context of {native:,}")
    return tuple(f"draft model {spec.name}: {text}" for text in texts)


def lora_caveats(plan: Plan) -> tuple[str, ...]:
    """What LoRA slots rest on."""
    if plan.budget.lora is None:
        return ()
    text = (
        "LoRA slots are those of every linear layer of the language model, as vLLM 0.33.0 "
        "allocates them; whether it takes adapters for this architecture is not looked at"
    )
    return (text,)


def beside_caveats(cache: Footprint) -> tuple[str, ...]:
    """What lies beside keys and values, where it is not as vLLM keeps it, or was asked for."""
    texts, asked = [], cache.beside
    slots = [slot for line in cache.lines for slot in line.slots]
    roles = {slot.role for slot in slots}
    kept, options = [], []
    if asked.index_cache_dtype == AUTO and any(line.kind.tag() == "DSA" for line in cache.lines):
        kept.append("index keys in the cache's type")
        options.append("index_cache_dtype")
    if roles & {"conv", "state"} and AUTO in (asked.mamba_cache_dtype, asked.mamba_ssm_cache_dtype):
        kept.append("recurrent states and convolutions in fp32")
        options += ["mamba_cache_dtype", "mamba_ssm_cache_dtype"]
    if cache.llama_cpp and kept:
        texts.append(
            f"{cache.kv_cache_dtype} is taken as llama.cpp's (vLLM has no such cache for this "
            f"model), which keeps {' and '.join(kept)}; set {' and '.join(options)} for "
            "another dtype"
        )
    if asked.index_cache_dtype != AUTO and "index_key" not in roles:
        texts.append("it keeps no index keys: index_cache_dtype changes nothing")
    states = (asked.mamba_cache_dtype, asked.mamba_ssm_cache_dtype)
    if states != (AUTO, AUTO) and not roles & {"conv", "state"}:
        texts.append("it has no recurrent layers: their cache dtypes change nothing")
    return tuple(texts)


def gpu_caveats(question: Question) -> tuple[str, ...]:
    """What is to be said of a server's GPU: its memory, and the share of it that is to be used."""
    gpu, utilization = question.gpu, question.gpu_memory_utilization
    size, most = gib(gpu.memory_bytes), gpu.most_utilization
    texts = []
    if gpu.memory_basis == "driver-log":
        texts.append(f"{size} is the driver's own figure; a process sees up to 3% less")
    by_share = question.kv_cache_memory_bytes is None
    if by_share and most is not None and utilization > most:
        texts.append(
            f"its {size} are shared with the host; no engine was seen to start with a utilisation "
            f"of more than {most}, and this is {utilization}"
        )
    return tuple(f"{gpu.name}: {text}" for text in texts)
