"""What figures rest on: layouts, nodes, the overhead and the time of a decode step."""

from __future__ import annotations

from collections.abc import Iterable

from kvplan.parallel import redundant_experts
from kvplan.planner.budget import ACTIVATION_SHARE, PROCESS_BYTES
from kvplan.planner.estimate import LATENCY_SECONDS, NODE_BYTES_PER_SECOND
from kvplan.planner.layouts import LARGEST_GPUS
from kvplan.planner.plan import Plan
from kvplan.report import Note
from kvplan.units import gib
from kvplan.views.words import engine_in_words


def topology(plan: Plan) -> tuple[str, ...]:
    """What of the layout leaves a link domain, or does not divide."""
    texts, domain = [], plan.gpu.link_domain
    crossing = plan.layout.crosses(domain)
    if crossing:
        texts.append(f"{crossing} crosses the links between nodes of {domain} GPUs")
    spare = redundant_experts(plan.spec, plan.layout)
    if spare:
        gpus, experts = plan.layout.stage_gpus, plan.spec.routed_experts or 0
        texts.append(
            f"{experts} experts do not divide over {gpus} GPUs: the fullest holds "
            f"{(experts + spare) // gpus}, as all do with {spare} redundant experts (vLLM's "
            "num_redundant_experts, SGLang's --ep-num-redundant-experts)"
        )
    return tuple(texts)


def routine(plan: Plan) -> tuple[Note, ...]:
    """What a plan's figures rest on as a matter of routine."""
    return (*estimates([plan]), *_weights(plan), *_nodes(plan), *decode_notes(plan))


def _weights(plan: Plan) -> tuple[Note, ...]:
    """What the bytes of an engine's weights rest on that nobody has said."""
    lines = (*plan.budget.weights, *plan.budget.draft_weights)
    assumed = dict.fromkeys(line.assumes for line in lines if line.assumes)
    return tuple(
        Note("weights", f"weights as {engine_in_words(plan)} lays them out are taken with {text}")
        for text in assumed
    )


def _nodes(plan: Plan) -> tuple[Note, ...]:
    notes, domain = [], plan.gpu.link_domain
    if plan.gpu.link_domain_is_assumed and plan.layout.gpus > 1:
        text = f"nodes of {domain} {plan.gpu.name} are assumed: their size is not known"
        notes.append(Note(f"nodes of {domain}", text))
    asked = plan.question.gpus or plan.question.layout
    if plan.layout.gpus > domain and not asked:
        text = (
            f"beyond one node of {domain} GPUs whole nodes are planned, up to {LARGEST_GPUS} GPUs; "
            "--gpus takes any number"
        )
        notes.append(Note("whole nodes", text))
    return tuple(notes)


def decode_notes(plan: Plan) -> tuple[Note, ...]:
    """What a plan's estimate of a decode step rests on; nothing where there is none."""
    if plan.step is None:
        return ()
    notes = [Note("decode step", _DECODE)]
    if plan.drafter is not None:
        text = "drafting is not in it: neither the draft model's steps nor what they save"
        notes.append(Note("decode without drafting", text))
    if plan.gpu.link_bytes_per_s is None and plan.layout.server_gpus > 1:
        rate = NODE_BYTES_PER_SECOND / 1e9
        text = f"the link of {plan.gpu.name} is not known; {rate:.0f} GB/s are assumed"
        notes.append(Note("links", text))
    return tuple(notes)


_DECODE = (
    "a decode step is estimated (assumed): experts touched by uniform routing, weights and "
    "caches read at full bandwidth, collectives at the link rate and "
    f"{LATENCY_SECONDS * 1e6:.0f} µs × log2(GPUs) each; no kernels, no scheduler"
)


def estimates(plans: Iterable[Plan]) -> tuple[Note, ...]:
    """What the overhead of these plans rests on, where nobody gave it; each said once."""
    assumed = (plan for plan in plans if plan.budget.overhead_basis == "assumed")
    return tuple(Note("overhead", text) for text in dict.fromkeys(map(_estimate, assumed)))


def _estimate(plan: Plan) -> str:
    if plan.budget.overhead_lines:
        return (
            f"what {engine_in_words(plan)} takes before its first block is an estimate with a "
            "range, from the model's sizes and the logs of servers; --overhead takes the measured "
            "figure"
        )
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
