"""Layouts of a model over GPUs, and what one GPU of a tensor-parallel group holds of a slot."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kvplan.errors import UsageError
from kvplan.kinds import Slot


@dataclass(frozen=True)
class Layout:
    """``gpus`` GPUs and what each of them is for.

    A model is cut in ``pipeline`` stages of layers. Within a stage, ``tensor`` GPUs share each
    layer's heads; ``attention_groups`` such groups have sequences, caches and attention weights of
    their own and share the routed experts (data-parallel attention). ``context`` GPUs of a tensor
    group divide the entries of the cache (decode context parallelism). ``replicas`` copies of all
    that have nothing in common.
    """

    tensor: int = 1
    pipeline: int = 1
    replicas: int = 1
    attention_groups: int = 1
    context: int = 1
    expert_parallel: bool = False
    """Whole experts on each GPU in place of slices of all: the same bytes where they divide."""

    @property
    def gpus(self) -> int:
        """All GPUs of the layout."""
        return self.tensor * self.pipeline * self.replicas * self.attention_groups

    @property
    def sequence_groups(self) -> int:
        """Groups among which the sequences are dealt out."""
        return self.replicas * self.attention_groups

    @property
    def name(self) -> str:
        """The layout in the field's shorthand: ``TP8``, ``DP8+EP8``, ``PP2×TP4``, ``TP8+DCP8``."""
        stages = f"PP{self.pipeline}×" if self.pipeline > 1 else ""
        inner = f"TP{self.tensor}"
        if self.attention_groups > 1:
            inner = f"DP{self.attention_groups}" + (f"×{inner}" if self.tensor > 1 else "")
        if self.attention_groups > 1 or self.expert_parallel:
            inner += f"+EP{self.tensor * self.attention_groups}"
        shared = f"+DCP{self.context}" if self.context > 1 else ""
        copies = f"{self.replicas} × " if self.replicas > 1 else ""
        return f"{copies}{stages}{inner}{shared}"


def written_layout(
    degrees: tuple[int | None, int | None, int | None, int | None, int | None],
    gpus: int | None,
    *,
    expert_parallel: bool,
) -> Layout | None:
    """The layout of degrees as users write them, in ``Layout``'s order; None where there is none.

    Raises UsageError where it has not so many GPUs, or experts are laid out over nothing.
    """
    if not any(degrees):
        if expert_parallel:
            hint = "give the tensor parallel or data-parallel attention size too"
            raise UsageError("enable_expert_parallel needs a layout", hint)
        return None
    tensor, pipeline, replicas, groups, context = (degree or 1 for degree in degrees)
    where = Layout(tensor, pipeline, replicas, groups, context, expert_parallel=expert_parallel)
    if gpus not in (None, where.gpus):
        raise UsageError(f"{gpus} GPUs are not the {where.gpus} of {where.name}")
    return where


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
