"""Whether a plan fits, in a sentence: why it does not, and what to change."""

from __future__ import annotations

from kvplan.formats import cache_format
from kvplan.planner.budget import Budget
from kvplan.planner.plan import Plan
from kvplan.report import Answer, Tone
from kvplan.units import gib, plural
from kvplan.views.words import engine_in_words, gpus_in_words

TIGHT_SHARE = 0.05
"""Of a GPU's memory: a load that leaves less free has next to no margin."""

HALF_OF = 16
"""Bits of the KV dtypes for which fp8 is half."""


def shortfall(plan: Plan) -> str:
    """Why the plan does not fit, and what would, in one sentence."""
    return f"{problem(plan)}; {advice(plan)}"


def problem(plan: Plan) -> str:
    """Why the plan does not fit."""
    budget, where = plan.budget, gpus_in_words(plan)
    on = f"on {where}" if plan.layout.gpus == 1 else f"on each of {where}"
    if budget.fits and plan.refusal:
        return f"does not start in {engine_in_words(plan)}: {plan.refusal}"
    if budget.fits:
        ranks = plural(plan.layout.sequence_groups, "data-parallel rank")
        return (
            f"does not run at once: {plural(plan.sequences, 'sequence')} on {ranks} of {where}, "
            f"each of which max_num_seqs stops at {plan.question.max_num_seqs:,}"
        )
    if not budget.has_room:
        parts = _loaded(budget)
        if budget.room_is_given:
            parts = f"{parts.replace(' and', ',')} and the given {gib(budget.room_bytes)}"
        taken_bytes = budget.taken_bytes
        return (
            f"does not fit: {parts} take {gib(taken_bytes)} {on}, of which "
            f"{gib(budget.allowed_bytes)} may be used"
        )
    return (
        f"does not fit: caches need {gib(budget.kv_bytes)} {on} and have {gib(budget.room_bytes)}"
    )


def advice(plan: Plan) -> str:
    """What to change where a plan does not fit."""
    budget = plan.budget
    if budget.fits and plan.refusal:
        return f"lower max_num_seqs to at most {plan.page_count}, or take more GPUs"
    if budget.fits:
        return "raise it, or take more GPUs"
    if budget.has_room:
        return remedy(plan)
    given_bytes = budget.room_bytes if budget.room_is_given else 0
    if budget.overhead_bytes + given_bytes >= budget.allowed_bytes:
        return "no GPU of this kind has so much: give less"
    return f"take more GPUs, or {_lighter(budget)}"


def verdict(plan: Plan) -> Answer:
    """Whether the load fits, in a sentence with its numbers."""
    name, where = plan.spec.name, gpus_in_words(plan)
    if not plan.fits:
        return Answer(f"{name} {problem(plan)}.", "bad", f"{_sentence(advice(plan))}.")
    lacks = ", without what could not be counted" if plan.not_counted else ""
    return Answer(f"{name} fits on {where}{lacks}: {_load(plan)}.", tone_of(plan))


def _sentence(text: str) -> str:
    """The text with a capital letter at its beginning."""
    return text[:1].upper() + text[1:]


def _load(plan: Plan) -> str:
    """The load, what was left open as the most that there is room for."""
    asked = plan.question
    sequences, tokens = plural(plan.sequences, "sequence"), plural(plan.context_tokens, "token")
    if asked.sequences is None and plan.max_sequences:
        return f"up to {sequences} × {tokens}"
    if asked.context_tokens is None and plan.context_tokens == plan.max_context_tokens:
        return f"{sequences} × up to {tokens}"
    free = max(0, plan.budget.free_bytes)
    share = f"{100 * free / plan.budget.memory_bytes:.0f}%"
    unsure = ", and not at the low end of what may be left for caches" if _is_unsure(plan) else ""
    return f"{sequences} × {tokens}, {gib(free)} ({share}) of each GPU free{unsure}"


def _is_unsure(plan: Plan) -> bool:
    """Whether the caches may be larger than the least that an engine may leave for them."""
    return plan.budget.kv_bytes > plan.budget.room_range[0]


def tone_of(plan: Plan) -> Tone:
    """Whether it fits, barely or not; a load that was found fills the GPU as a matter of course."""
    if not plan.fits:
        return "bad"
    asked = plan.question
    given = asked.sequences is not None and asked.context_tokens is not None
    free, memory = plan.budget.free_bytes, plan.budget.memory_bytes
    return "tight" if given and (free < TIGHT_SHARE * memory or _is_unsure(plan)) else "good"


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
    return f"{fits}{more_room(plan)}"


def more_room(plan: Plan) -> str:
    """What to change where the load has to stay as it is."""
    half = ", or an fp8 KV cache" if _is_16_bit(plan.budget.cache.kv_cache_dtype) else ""
    return f"take more GPUs{half}"


def _is_16_bit(kv_cache_dtype: str) -> bool:
    packing = cache_format(kv_cache_dtype).default
    return packing is not None and packing.bits == HALF_OF
