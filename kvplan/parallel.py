"""What one GPU of a tensor-parallel group holds of a slot."""

from __future__ import annotations

from collections.abc import Iterable

from kvplan.errors import UsageError
from kvplan.kinds import Slot


def heads_on_rank(slot: Slot, tensor_parallel: int) -> int:
    """Heads of the slot that each of ``tensor_parallel`` GPUs keeps.

    Whole slots (latents, index keys) stay whole; KV heads are replicated once there are fewer of
    them than GPUs (vLLM 0.33.0 config/model.py:1663). Raises UsageError where heads would break.
    """
    if slot.split == "whole" or tensor_parallel == 1:
        return slot.heads
    if slot.heads % tensor_parallel == 0:
        return slot.heads // tensor_parallel
    if slot.split == "replicate" and tensor_parallel % slot.heads == 0:
        return 1
    raise UsageError(
        f"{slot.heads} {slot.role.replace('_', ' ')} heads cannot be laid out over "
        f"{tensor_parallel} GPUs"
    )


def splits(slots: Iterable[Slot], query_heads: Iterable[int], tensor_parallel: int) -> bool:
    """Whether all heads can be laid out over so many GPUs, as engines demand."""
    if any(heads % tensor_parallel for heads in query_heads):
        return False
    try:
        for slot in slots:
            heads_on_rank(slot, tensor_parallel)
    except UsageError:
        return False
    return True
