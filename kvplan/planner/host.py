"""The tier below the GPUs: caches in the host's memory."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from kvplan.parallel import Layout
from kvplan.planner.budget import Budget, by_stage, unlike


def host_bytes_per_token(budgets: Sequence[Budget], layout: Layout) -> Fraction:
    """What a token of a long sequence takes there: the bytes of all GPUs that keep a share of it.

    vLLM 0.33.0 v1/kv_offload/cpu/spec.py: kv_offloading_size is the memory of one data-parallel
    rank (config/cache.py: "summed across all TP ranks"), and every GPU stores what it holds itself,
    copied heads and latents with it; latents alone are stored once where there are neither stages
    nor decode context parallelism (offloading/config.py, replicated_layout).
    """
    growing = [line for budget in unlike(budgets) for line in budget.cache.lines if line.growth]
    latent = all(slot.slot.split == "whole" for line in growing for slot in line.slots)
    once = latent and layout.pipeline == 1 and layout.context == 1
    in_stages = sum(by_stage(lambda budget: budget.cache.bytes_per_token, budgets), Fraction(0))
    return in_stages * (1 if once else layout.tensor)
