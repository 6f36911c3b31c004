"""Memory of one GPU laid out as a budget.

The fullest GPU decides: the pipeline stage whose weights and caches take most. A budget is
monotone in context and sequences, so limits are found by search over the same arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from kvplan.calc import Footprint, PackedCaches
from kvplan.gpu import Gpu
from kvplan.parallel import Layout
from kvplan.planner.loaded import LoadedStage, loaded_stages
from kvplan.planner.lora import LoraSlots
from kvplan.planner.weights import WeightsLine
from kvplan.question import Question
from kvplan.units import ceil_div

Figure = TypeVar("Figure")

PROCESS_BYTES = 765 << 20  # CUDA context, kernels, cuBLAS: measured on an H100, torch 2.11
ACTIVATION_SHARE = 0.02  # activations and CUDA graphs: H100 logs of vLLM leave 1.5 GiB of 80
IMAGE_BYTES = 2 << 30
"""What an engine sets aside for a vision tower when it starts with the largest images it may get.

A 7B Qwen2.5-VL on 24 GB left 0.13 GiB of caches where its weights and the above leave 2.1
(github.com/allenai/olmocr/issues/269).
"""


@dataclass(frozen=True)
class Budget:
    """One GPU, the fullest of its layout; all sizes in bytes.

    ``room_bytes`` is what is left for caches, ``cache`` what one sequence group's caches take of
    it on this GPU.
    """

    memory_bytes: int
    allowed_bytes: int
    overhead_bytes: int
    overhead_basis: str
    weights: tuple[WeightsLine, ...]
    cache: Footprint
    room_bytes: int
    room_is_given: bool = False
    image_bytes: int = 0
    """What of the overhead is for the images that a vision tower is tried with."""
    draft_weights: tuple[WeightsLine, ...] = ()
    """Of a draft model beside the model, where this GPU has them."""
    lora: LoraSlots | None = None

    @property
    def weights_bytes(self) -> int:
        """All parts of the model's weights on this GPU."""
        return sum(line.size_bytes for line in self.weights)

    @property
    def draft_weights_bytes(self) -> int:
        """All parts of the draft model's weights on this GPU."""
        return sum(line.size_bytes for line in self.draft_weights)

    @property
    def lora_bytes(self) -> int:
        """Slots for LoRA adapters."""
        return self.lora.size_bytes if self.lora else 0

    @property
    def growing_bytes(self) -> int:
        """The model's caches that grow with context."""
        return self.cache.own.total_bytes - self.fixed_bytes

    @property
    def fixed_bytes(self) -> int:
        """Its windows, recurrent states and cross-attention, at what this context fills of them."""
        bounded = (line.bytes_per_sequence for line in self.cache.own.lines if not line.growth)
        return self.cache.sequences * sum(bounded)

    @property
    def draft_cache_bytes(self) -> int:
        """The draft model's caches."""
        return self.cache.of_drafter.total_bytes

    @property
    def free_bytes(self) -> int:
        """What is left when everything is in; negative by what is missing."""
        if self.room_is_given and self.room_bytes < 0:
            return self.room_bytes  # the caches would lie in the room that is not there
        return self.room_bytes - self.cache.total_bytes

    @property
    def fits(self) -> bool:
        """Whether weights and caches stay within what is allowed."""
        return self.free_bytes >= 0


def overhead(gpu: Gpu, question: Question) -> tuple[int, str]:
    """Bytes that are neither weights nor caches, without a tower's images; that figure's basis."""
    if question.overhead_bytes is not None:
        return question.overhead_bytes, "measured"
    process_bytes = gpu.process_bytes or PROCESS_BYTES
    return process_bytes + int(gpu.memory_bytes * ACTIVATION_SHARE), "assumed"


def stage_budgets(
    caches: PackedCaches,
    question: Question,
    layout: Layout,
    context_tokens: int,
    sequences: int,
) -> tuple[Budget, ...]:
    """The budget of a GPU of each pipeline stage, for a model whose caches are packed already.

    A sequence group takes its share of the sequences, rounded up. Raises RefusedError where
    neither the weights nor the caches' room are known.
    """
    in_group = ceil_div(sequences, layout.sequence_groups)
    stages = loaded_stages(caches, question, layout)
    budgets: dict[int, Budget] = {}
    for loaded in stages:
        if id(loaded) in budgets:
            continue
        cache = caches.footprint(
            context_tokens,
            in_group,
            layout.tensor,
            layout.context,
            loaded.stage,
            last=loaded.is_last,
        )
        budgets[id(loaded)] = _budget(question, loaded, cache)
    return tuple(budgets[id(loaded)] for loaded in stages)


def unlike(budgets: Iterable[Budget]) -> list[Budget]:
    """The budgets without repetition: stages that hold the same are one object."""
    return list({id(budget): budget for budget in budgets}.values())


def by_stage(figure: Callable[[Budget], Figure], budgets: Iterable[Budget]) -> list[Figure]:
    """A figure of each stage, worked out once for those that hold the same."""
    stages = tuple(budgets)
    figures = {id(budget): figure(budget) for budget in unlike(stages)}
    return [figures[id(budget)] for budget in stages]


def _budget(question: Question, loaded: LoadedStage, cache: Footprint) -> Budget:
    extra_bytes, basis = overhead(question.gpu, question)
    image_bytes = IMAGE_BYTES if loaded.sees and basis == "assumed" else 0
    extra_bytes += image_bytes
    memory_bytes = question.gpu.memory_bytes
    allowed, room = _room(question, memory_bytes, extra_bytes + loaded.size_bytes)
    return Budget(
        memory_bytes=memory_bytes,
        allowed_bytes=allowed,
        overhead_bytes=extra_bytes,
        image_bytes=image_bytes,
        overhead_basis=basis,
        weights=loaded.weights,
        cache=cache,
        room_bytes=room,
        room_is_given=question.kv_cache_memory_bytes is not None,
        draft_weights=loaded.draft_weights,
        lora=loaded.lora,
    )


def _room(question: Question, memory_bytes: int, taken_bytes: int) -> tuple[int, int]:
    """Bytes that may be used, and what of them is left for caches: negative by what is missing.

    Room that is given takes the place of utilisation; an engine takes it whole or does not start.
    """
    given_bytes = question.kv_cache_memory_bytes
    if given_bytes is None:
        allowed_bytes = int(memory_bytes * question.gpu_memory_utilization)
        return allowed_bytes, allowed_bytes - taken_bytes
    missing_bytes = taken_bytes + given_bytes - memory_bytes
    if missing_bytes > 0:
        return memory_bytes, -missing_bytes
    return taken_bytes + given_bytes, given_bytes
