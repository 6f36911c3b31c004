"""Slots for LoRA adapters, which vLLM allocates at its start, one after the other for all matrices.

vLLM 0.33.0 lora/layers: ``max_loras`` slots of ``max_lora_rank`` for every linear layer of the
language model, in the model's dtype; adapters of a smaller rank take a whole slot. Without
fully_sharded_loras (the default) half of each pair is whole on every tensor-parallel GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvplan.errors import RefusedError
from kvplan.parallel import Layout, heads_on_rank
from kvplan.question import Question
from kvplan.spec import ModelSpec
from kvplan.stored import WEIGHT_BITS, LoraWidths
from kvplan.units import ceil_div

_VOCABULARY = ("embedding", "lm_head")
_COUNTED = frozenset({"full_attention", "sliding_window", "chunked_local", "kv_shared"})


@dataclass(frozen=True)
class LoraSlots:
    """The slots on one GPU: bytes of one of them in the layers and, apart, at the model's ends."""

    slots: int
    rank: int
    layer_bytes: int
    vocabulary_bytes: int

    @property
    def bytes_per_slot(self) -> int:
        """One slot, all of it."""
        return self.layer_bytes + self.vocabulary_bytes

    @property
    def size_bytes(self) -> int:
        """All slots."""
        return self.slots * self.bytes_per_slot


def lora_slots(
    spec: ModelSpec, question: Question, layout: Layout, layers: int, *, first: bool, last: bool
) -> LoraSlots | None:
    """The slots of a GPU whose stage has ``layers`` of the model's; None where none are asked for.

    Raises RefusedError where the shapes of the model's matrices are not known.
    """
    if question.max_loras is None:
        return None
    _refuse_unknown(spec)
    ends = {"embedding": first, "lm_head": last}
    in_layers = in_ends = 0
    for widths in spec.lora:
        numbers = _on_rank(spec, widths, layout)
        if widths.part in _VOCABULARY:
            in_ends += numbers if ends[widths.part] else 0
        else:
            in_layers += ceil_div(numbers * layers, spec.total_layers)
    number_bytes = question.max_lora_rank * WEIGHT_BITS[spec.dtype] // 8
    return LoraSlots(
        slots=question.max_loras,
        rank=question.max_lora_rank,
        layer_bytes=in_layers * number_bytes,
        vocabulary_bytes=in_ends * number_bytes,
    )


def _refuse_unknown(spec: ModelSpec) -> None:
    others = [kind.tag() for kind, _, _ in spec.caches() if kind.kind not in _COUNTED]
    if others:
        raise RefusedError(
            f"{spec.name}: how many bytes a LoRA slot takes is counted for attention with keys and "
            f"values, and it has {others[0]} layers",
            "leave max_loras out, and add the slots to overhead",
        )
    if not spec.lora:
        raise RefusedError(
            f"{spec.name}: the shapes of its matrices are not known, which LoRA slots rest on",
            "give its config.json, or lora in the spec (part, copied, divided)",
        )


def _on_rank(spec: ModelSpec, widths: LoraWidths, layout: Layout) -> int:
    """Numbers of one part for each unit of the rank, on the fullest GPU."""
    if widths.part == "routed_experts":
        gpus = layout.stage_gpus
        if layout.expert_parallel and spec.routed_experts:
            here, experts = ceil_div(spec.routed_experts, gpus), spec.routed_experts
            return ceil_div((widths.copied + widths.divided) * here, experts)
        return widths.copied + ceil_div(widths.divided, gpus)
    if widths.part != "attention":
        return widths.copied + ceil_div(widths.divided, layout.tensor)
    rows, own_rows = _key_values(spec, layout.tensor)
    return widths.copied + ceil_div(widths.divided - rows, layout.tensor) + own_rows


def _key_values(spec: ModelSpec, tensor: int) -> tuple[int, int]:
    """Rows of the matrices of keys and values: of the model, and on one GPU.

    Fewer KV heads than GPUs are copied (QKVParallelLinear), and B with them.
    """
    slots = [
        (slot, layers)
        for kind, _, layers in spec.caches()
        if kind.kind != "kv_shared"
        for slot in kind.slots()
    ]
    rows = sum(slot.heads * slot.width * layers for slot, layers in slots)
    own_rows = sum(heads_on_rank(slot, tensor) * slot.width * layers for slot, layers in slots)
    return rows, own_rows
