"""How a model is laid out over GPUs, which layouts there are for it, and what one GPU holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import gcd

from kvplan.errors import RefusedError, UsageError
from kvplan.kinds import Slot
from kvplan.limits import MOST_SIZE, whole
from kvplan.spec import ModelSpec
from kvplan.units import divisors, plural


@dataclass(frozen=True)
class Layout:
    """``gpus`` GPUs and what each of them is for, in vLLM's terms.

    A model is cut in ``pipeline`` stages of layers. Within a stage, ``tensor`` GPUs share each
    layer's heads. ``data`` such groups (data-parallel ranks) have sequences, caches and attention
    weights of their own and share the routed experts, in slices or whole (``expert_parallel``);
    SGLang calls the same ``--enable-dp-attention``. ``context`` GPUs of a tensor group divide the
    entries of the cache (decode context parallelism). ``prefill`` such groups share the tokens of
    each prompt, and keep weights and caches of their own (prefill context parallelism); their
    experts are shared, and ``context`` may go over them. ``replicas`` copies of all that have
    nothing in common.
    """

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    context: int = 1
    replicas: int = 1
    expert_parallel: bool = False
    """Whole experts on each GPU in place of slices of all."""
    partition: tuple[int, ...] = ()
    """Layers of each pipeline stage where somebody gave them; empty for an even split."""
    prefill: int = 1

    @property
    def gpus(self) -> int:
        """All GPUs of the layout."""
        return self.server_gpus * self.replicas

    @property
    def server_gpus(self) -> int:
        """GPUs of one copy of the server."""
        return self.stage_gpus * self.pipeline

    @property
    def stage_gpus(self) -> int:
        """GPUs of a pipeline stage: those that share the routed experts."""
        return self.tensor * self.data * self.prefill

    @property
    def sequence_groups(self) -> int:
        """Groups among which the sequences are dealt out."""
        return self.replicas * self.data

    @property
    def name(self) -> str:
        """The layout in the field's shorthand: ``TP8``, ``DP8+EP8``, ``PP2×TP4``, ``TP4+PCP2``."""
        stages = f"PP{self.pipeline}×" if self.pipeline > 1 else ""
        inner = f"TP{self.tensor}"
        if self.data > 1:
            inner = f"DP{self.data}" + (f"×{inner}" if self.tensor > 1 else "")
        if self.expert_parallel:
            inner += f"+EP{self.stage_gpus}"
        if self.prefill > 1:
            inner += f"+PCP{self.prefill}"
        shared = f"+DCP{self.context}" if self.context > 1 else ""
        copies = f"{self.replicas} × " if self.replicas > 1 else ""
        return f"{copies}{stages}{inner}{shared}"

    def of(self, spec: ModelSpec) -> Layout:
        """The layout as it is for this model: a dense one's data-parallel ranks are replicas."""
        if self.data == 1 or spec.has_routed_experts:
            return self
        return replace(self, data=1, replicas=self.replicas * self.data)

    def crosses(self, domain_gpus: int) -> str | None:
        """The parallelism that leaves a link domain of so many GPUs; None where nothing does."""
        if self.tensor > domain_gpus:
            return "TP"
        if self.tensor * self.prefill > domain_gpus:
            return "PCP"
        if self.stage_gpus > domain_gpus:
            return "EP" if self.expert_parallel else "DP"
        return "PP" if self.server_gpus > domain_gpus else None


_PIPELINE = "pipeline_parallel_size"
DEGREES = {
    "tensor_parallel_size": "tensor",
    _PIPELINE: "pipeline",
    "data_parallel_size": "data",
    "decode_context_parallel_size": "context",
    "prefill_context_parallel_size": "prefill",
    "replicas": "replicas",
}
"""The degrees of a layout under the names that users write, and ``Layout``'s own."""


def layout_of(
    degrees: Mapping[str, int | None],
    gpus: int | None = None,
    *,
    expert_parallel: bool = False,
    partition: tuple[int, ...] = (),
) -> Layout | None:
    """The layout of these degrees (``DEGREES``), None where none is given; what is left out is 1.

    Of ``gpus`` GPUs, as many replicas are made as go into them where their number is not given.
    ``partition`` has the layers of each pipeline stage, and so their number. Raises UsageError
    where the GPUs do not suit, stages are given twice, or experts are laid out over nothing.
    """
    given = {name: degree for name, degree in degrees.items() if degree is not None}
    for name, value in given.items():
        whole(name, value, MOST_SIZE)
    if partition:
        stages = given.setdefault(_PIPELINE, len(partition))
        if stages != len(partition):
            listed = ", ".join(map(str, partition))
            raise UsageError(
                f"pipeline_partition {listed} has {plural(len(partition), 'stage')}, and "
                f"{_PIPELINE} says {stages}",
                f"leave {_PIPELINE} out, or give {plural(stages, 'number')} of layers",
            )
    if not given:
        if expert_parallel:
            hint = "give tensor_parallel_size or data_parallel_size too"
            raise UsageError("enable_expert_parallel needs a layout", hint)
        return None
    fields = {DEGREES[name]: degree for name, degree in given.items()}
    layout = Layout(**fields, expert_parallel=expert_parallel, partition=partition)
    if gpus in (None, layout.gpus):
        return layout
    if "replicas" in given:
        raise UsageError(f"{layout.name} takes {layout.gpus} GPUs, not {gpus}")
    return _with_replicas(layout, gpus or 1)


def _with_replicas(layout: Layout, gpus: int) -> Layout:
    if gpus % layout.gpus:
        group = f"the {layout.gpus} GPUs of {layout.name}"
        if layout == Layout(layout.tensor):
            group = f"tensor_parallel_size {layout.tensor}"
        raise UsageError(f"{gpus} GPUs is not a multiple of {group}")
    return replace(layout, replicas=gpus // layout.gpus)


def heads_on_rank(slot: Slot, tensor_parallel: int) -> int:
    """Heads of the slot that each of ``tensor_parallel`` GPUs keeps, where it can be divided.

    Whole slots (latents, index keys) stay whole; KV heads are replicated once there are fewer of
    them than GPUs (vLLM 0.33.0 config/model.py:1663).
    """
    return slot.heads if slot.split == "whole" else max(1, slot.heads // tensor_parallel)


def tensor_parallel_sizes(spec: ModelSpec, *, draft: bool = False) -> tuple[int, ...]:
    """Group sizes over which every head of the model can be laid out, smallest first.

    Attention heads have to divide; KV heads divide, or are replicated where there are fewer;
    recurrent heads divide.
    """
    query_heads, slots = _heads(spec, draft=draft)
    divided = [slot.heads for slot in slots if slot.split == "divide"]
    sizes = divisors(gcd(*query_heads, *divided) or 1)
    return tuple(size for size in sizes if _divide(query_heads, slots, size))


def _heads(spec: ModelSpec, *, draft: bool) -> tuple[list[int], list[Slot]]:
    kinds = [kind for kind, _, _ in spec.caches(draft=draft)]
    query_heads = [heads for kind in kinds if (heads := kind.query_heads())]
    return query_heads, [slot for kind in kinds for slot in kind.slots()]


def _divide(query_heads: Iterable[int], slots: Iterable[Slot], tensor_parallel: int) -> bool:
    """Whether all heads can be laid out over so many GPUs, as engines demand."""
    if any(heads % tensor_parallel for heads in query_heads):
        return False
    return all(
        slot.split == "whole"
        or slot.heads % tensor_parallel == 0
        or (slot.split == "replicate" and tensor_parallel % slot.heads == 0)
        for slot in slots
    )


def check_tensor_parallel(spec: ModelSpec, tensor_parallel: int, *, draft: bool = False) -> None:
    """Raises UsageError, with the sizes that are possible, where the heads cannot be divided."""
    if tensor_parallel == 1 or _divide(*_heads(spec, draft=draft), tensor_parallel):
        return
    possible = ", ".join(map(str, tensor_parallel_sizes(spec, draft=draft)))
    raise UsageError(
        f"{spec.name}: its heads cannot be divided over tensor_parallel_size {tensor_parallel}",
        f"possible: {possible}",
    )


def check_layout(spec: ModelSpec, layout: Layout, least_block: int | None = None) -> None:
    """Raises UsageError, with the values that are possible, where a layout cannot be.

    ``least_block`` is the smallest block to which an engine refines an expert's scales; None where
    slices have to keep the checkpoint's own. RefusedError where no engine says what the layout
    would hold.
    """
    check_tensor_parallel(spec, layout.tensor)
    if layout.pipeline > spec.total_layers:
        raise UsageError(
            f"{spec.name} has {spec.total_layers} layers; it cannot be split into "
            f"{layout.pipeline} pipeline stages"
        )
    if layout.partition and sum(layout.partition) != spec.total_layers:
        raise UsageError(
            f"pipeline_partition {' + '.join(map(str, layout.partition))} is "
            f"{sum(layout.partition)} layers; {spec.name} has {spec.total_layers}"
        )
    _check_experts(spec, layout, least_block)
    if layout.context > 1:
        _check_context(spec, layout)


def redundant_experts(spec: ModelSpec, layout: Layout) -> int:
    """Copies that make each GPU hold as many whole routed experts; 0 where they divide evenly.

    vLLM takes an uneven split for some models and kernels (not for DeepSeek-V4: issue 52435),
    SGLang for none (layers/moe/fused_moe_triton/layer.py asserts it); both take redundant experts.
    """
    if not layout.expert_parallel or not spec.routed_experts:
        return 0
    return -spec.routed_experts % layout.stage_gpus


def _check_experts(spec: ModelSpec, layout: Layout, least_block: int | None) -> None:
    """Slices of experts have to divide their width, and whole quantisation blocks with it."""
    if not spec.has_routed_experts:
        if layout.expert_parallel:
            raise UsageError(
                f"{spec.name} has no routed experts to share",
                "leave enable_expert_parallel out",
            )
        return
    gpus, width = layout.stage_gpus, spec.expert_intermediate_size
    if layout.expert_parallel or gpus == 1 or width is None:
        return
    if least_block and not width % gpus and gcd(width // gpus, spec.expert_block) >= least_block:
        return
    if width % (gpus * spec.expert_block):
        blocks = f" in blocks of {spec.expert_block}" if spec.expert_block > 1 else ""
        raise UsageError(
            f"{spec.name}: experts of width {width:,}{blocks} cannot be sliced over {gpus} GPUs",
            "enable_expert_parallel puts whole experts on each GPU",
        )


def _check_context(spec: ModelSpec, layout: Layout) -> None:
    """The limits of vLLM 0.33.0 config/model.py:1578 and of its sliding-window backends.

    Over prefill groups, the cache is divided among them or among all their GPUs
    (config/parallel.py:595).
    """
    if layout.prefill > 1:
        possible = sorted({1, layout.prefill, layout.tensor * layout.prefill})
        if layout.context not in possible:
            raise UsageError(
                f"decode_context_parallel_size {layout.context} does not go over "
                f"prefill_context_parallel_size {layout.prefill} or all GPUs of a stage",
                f"possible: {', '.join(map(str, possible))}",
            )
    elif layout.tensor % layout.context:
        raise UsageError(
            f"decode_context_parallel_size {layout.context} does not divide "
            f"tensor_parallel_size {layout.tensor}",
            f"possible: {', '.join(map(str, divisors(layout.tensor)))}",
        )
    for kind, _, _ in spec.caches():
        for slot in kind.slots() if kind.growth() else ():
            if slot.split != "whole" and layout.tensor // slot.heads < layout.context:
                raise UsageError(
                    f"{spec.name}: decode_context_parallel_size {layout.context} needs a "
                    f"tensor_parallel_size of {layout.context} times its {slot.heads} KV heads, "
                    "or more",
                    "a latent cache (MLA) has no such limit",
                )
        if kind.fixed_entries() > 1 and kind.is_attention and not kind.per_encoder_input:
            raise RefusedError(
                f"{spec.name}: no engine divides a sliding window by decode context parallelism",
                "vLLM 0.33.0 asserts against it; leave decode_context_parallel_size out",
            )
