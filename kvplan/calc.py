"""The one place that multiplies: entries x elements x bits x layers, on one GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

from kvplan.dtypes import AS_ENGINES_DO, BesideDtypes, Storage, storage
from kvplan.errors import RefusedError, UsageError
from kvplan.formats import CacheFormat, Packing
from kvplan.kinds import CacheKind, Slot
from kvplan.limits import whole
from kvplan.parallel import check_tensor_parallel, heads_on_rank, tensor_parallel_sizes
from kvplan.spec import ModelSpec
from kvplan.units import ceil_div, number, plural


@dataclass(frozen=True)
class PackedSlot:
    """One tensor of an entry: ``heads`` rows of the slot's width, packed."""

    slot: Slot
    heads: int
    format: str
    packing: Packing

    @property
    def role(self) -> str:
        """What the tensor is: ``key``, ``latent``, ``state``."""
        return self.slot.role

    @property
    def width(self) -> int:
        """Elements of a row."""
        return self.slot.width

    def on_rank(self, tensor_parallel: int) -> PackedSlot:
        """The same tensor as each of so many GPUs keeps it."""
        heads = heads_on_rank(self.slot, tensor_parallel)
        return self if heads == self.heads else replace(self, heads=heads)

    @property
    def bytes_per_entry(self) -> int:
        """Bytes of this tensor in one entry."""
        return self.heads * self.packing.row_bytes(self.width)


@dataclass(frozen=True)
class Line:
    """One kind of cache over all its layers: the working behind a footprint's totals.

    ``copies`` are caches over all ``layers`` (two a layer in LongCat-Flash), ``entries`` what one
    sequence of the footprint's context leaves in each of them.
    """

    kind: CacheKind
    layers: int
    copies: int
    slots: tuple[PackedSlot, ...]
    entries: int
    growth: Fraction
    """Entries that one more token adds here: the kind's own, over the GPUs that share them."""
    of_drafter: bool = False
    """Whether it is the draft model's, beside the model's own."""

    @cached_property
    def bytes_per_entry(self) -> int:
        """Bytes of one entry of one cache."""
        return sum(slot.bytes_per_entry for slot in self.slots)

    @property
    def bytes_per_token(self) -> Fraction:
        """Growth of all copies for one more token of a long sequence."""
        return self.copies * self.bytes_per_entry * self.growth

    @property
    def fixed_bytes(self) -> int:
        """Bytes of all copies at their full size where they are bounded, else 0."""
        return self.copies * self.bytes_per_entry * self.kind.fixed_entries()

    @property
    def bytes_per_sequence(self) -> int:
        """Bytes of all copies for one sequence of the footprint's context."""
        return self.copies * self.bytes_per_entry * self.entries

    @property
    def formula(self) -> str:
        """The multiplication with its numbers in it."""
        if not self.slots:
            return "reads another layer's cache: 0 B"
        tensors = " + ".join(_tensor(slot) for slot in self.slots)
        terms = [plural(self.copies, "layer" if self.copies == self.layers else "cache")]
        terms.append(f"({tensors})" if " + " in tensors else tensors)
        if self.growth:
            over = "" if self.growth == 1 else f" ÷ {self.growth.denominator} tokens"
            return f"{' × '.join(terms)}{over} = {number(self.bytes_per_token)} B/token"
        if self.kind.fixed_entries() != 1:
            terms.append(f"{self.kind.fixed_entries():,} entries")
        return f"{' × '.join(terms)} = {self.fixed_bytes:,} B/sequence"


def _tensor(slot: PackedSlot) -> str:
    role = slot.role.replace("_", " ")
    row = slot.packing.describe(slot.width)
    if slot.heads == 1:
        return f"{role} {row}"
    return f"{role} {slot.heads:,}×({row})" if "+" in row else f"{role} {slot.heads:,}×{row}"


@dataclass(frozen=True)
class WrittenCache:
    """A cache as its spec writes it, and the bytes of one entry of all its copies."""

    kind: CacheKind
    size_bytes: int
    native_context_tokens: int | None
    of_drafter: bool = False

    def kind_at(self, context_tokens: int) -> CacheKind:
        """What it is at this context: a window may be one only beyond the native context."""
        native = self.native_context_tokens
        return self.kind.bounded_by(None if native is None else max(native, context_tokens))


@dataclass(frozen=True)
class Drafter:
    """A draft model whose caches stand in a footprint, and the KV dtype that they have."""

    name: str
    kv_cache_dtype: str


@dataclass(frozen=True)
class Footprint:
    """What a model's caches take: on one GPU of a tensor-parallel group, or whole (group of one).

    Bytes throughout. Pages, padding and pools of a serving engine are not in it.
    """

    model: str
    context_tokens: int
    sequences: int
    kv_cache_dtype: str
    tensor_parallel: int
    context_parallel: int
    lines: tuple[Line, ...]
    draft: bool
    written: tuple[WrittenCache, ...] = ()
    """The same caches as the specs write them, for the question of another context."""
    beside: BesideDtypes = AS_ENGINES_DO
    """What was asked for beside keys and values."""
    llama_cpp: bool = False
    """Whether what lies beside keys and values is as llama.cpp keeps it."""
    drafter: Drafter | None = None
    """The draft model whose caches are among the lines, where there is one here."""

    @property
    def own(self) -> Footprint:
        """The same without the draft model's caches."""
        lines = tuple(line for line in self.lines if not line.of_drafter)
        written = tuple(cache for cache in self.written if not cache.of_drafter)
        return replace(self, lines=lines, written=written, drafter=None)

    @property
    def of_drafter(self) -> Footprint:
        """The draft model's caches alone; none where there is no draft model here."""
        lines = tuple(line for line in self.lines if line.of_drafter)
        written = tuple(cache for cache in self.written if cache.of_drafter)
        return replace(self, lines=lines, written=written)

    @property
    def bytes_per_token(self) -> Fraction:
        """Growth for one more token of one long sequence."""
        return sum((line.bytes_per_token for line in self.lines), Fraction(0))

    @property
    def fixed_bytes_per_sequence(self) -> int:
        """Windows at their full size and recurrent state; cross-attention stands apart."""
        return sum(line.fixed_bytes for line in self.lines if not line.kind.per_encoder_input)

    @property
    def cross_attention_bytes_per_sequence(self) -> int:
        """Keys and values of one full encoder input; 0 without cross-attention."""
        return sum(line.fixed_bytes for line in self.lines if line.kind.per_encoder_input)

    @cached_property
    def bytes_per_sequence(self) -> int:
        """One sequence of ``context_tokens``, with one full encoder input where there is one."""
        return sum(line.bytes_per_sequence for line in self.lines)

    @property
    def total_bytes(self) -> int:
        """All ``sequences``, each of ``context_tokens``."""
        return self.sequences * self.bytes_per_sequence

    def bytes_per_sequence_at(self, context_tokens: int) -> int:
        """One sequence of another context, without packing the caches anew.

        A window that this footprint's context does not outgrow may bound that one.
        """
        shared = self.context_parallel
        return sum(
            cache.size_bytes * _entries(cache.kind_at(context_tokens), context_tokens, shared)
            for cache in self.written
        )


def _entries(kind: CacheKind, context_tokens: int, context_parallel: int) -> int:
    entries = kind.entries(context_tokens)
    return ceil_div(entries, context_parallel) if kind.growth() else entries


@dataclass(frozen=True)
class PackedCaches:
    """A model's caches in one KV dtype, before anything is said of context, sequences or GPUs.

    Packing is asked of the formats once; every layout that is tried takes its share of this.
    """

    spec: ModelSpec
    kv_cache_dtype: str
    slots: Mapping[CacheKind, tuple[PackedSlot, ...]]
    draft: bool
    stored: Storage
    drafter: PackedCaches | None = None
    """Those of a second model that drafts for this one, in a dtype of their own."""

    @cached_property
    def tensor_parallel_sizes(self) -> tuple[int, ...]:
        """Tensor-parallel groups over which all heads can be laid out."""
        return tensor_parallel_sizes(self.spec, draft=self.draft)

    def beside(self, drafter: PackedCaches | None) -> PackedCaches:
        """The same caches, and those of a draft model with them."""
        return replace(self, drafter=drafter)

    def footprint(
        self,
        context_tokens: int,
        sequences: int = 1,
        tensor_parallel: int = 1,
        context_parallel: int = 1,
        stage: ModelSpec | None = None,
        *,
        last: bool = True,
    ) -> Footprint:
        """What the caches take on one GPU; of a pipeline ``stage`` where one is given.

        ``context_parallel`` GPUs of the tensor-parallel group divide the entries that grow. A
        draft model's caches are on the ``last`` stage, laid out over the same group. Raises
        UsageError where the heads cannot be divided.
        """
        lines = self.lines(context_tokens, tensor_parallel, context_parallel, stage)
        written = self.written(tensor_parallel, stage)
        drafter = None
        if self.drafter is not None and last:
            drafted = self.drafter.lines(context_tokens, tensor_parallel, context_parallel)
            lines += [replace(line, of_drafter=True) for line in drafted]
            beside = self.drafter.written(tensor_parallel)
            written += [replace(cache, of_drafter=True) for cache in beside]
            drafter = Drafter(self.drafter.spec.name, self.drafter.kv_cache_dtype)
        return Footprint(
            model=self.spec.name,
            context_tokens=context_tokens,
            sequences=sequences,
            kv_cache_dtype=self.kv_cache_dtype,
            tensor_parallel=tensor_parallel,
            context_parallel=context_parallel,
            lines=tuple(lines),
            draft=self.draft,
            written=tuple(written),
            beside=self.stored.beside,
            llama_cpp=self.stored.llama_cpp,
            drafter=drafter,
        )

    def lines(
        self,
        context_tokens: int,
        tensor_parallel: int,
        context_parallel: int,
        stage: ModelSpec | None = None,
    ) -> list[Line]:
        """The model's own caches on one GPU, a line for each kind."""
        if tensor_parallel not in self.tensor_parallel_sizes:
            check_tensor_parallel(self.spec, tensor_parallel, draft=self.draft)
        held, lines = stage or self.spec, []
        for kind, layers, copies in held.caches(draft=self.draft, context_tokens=context_tokens):
            slots = tuple(slot.on_rank(tensor_parallel) for slot in self.slots[kind])
            entries = _entries(kind, context_tokens, context_parallel)
            growth = kind.growth() / context_parallel
            lines.append(Line(kind, layers, copies, slots, entries, growth))
        return lines

    def written(self, tensor_parallel: int, stage: ModelSpec | None = None) -> list[WrittenCache]:
        """The model's own caches on one GPU, every window as the spec writes it."""
        return [
            WrittenCache(
                kind,
                copies * sum(slot.on_rank(tensor_parallel).bytes_per_entry for slot in slots),
                self.spec.native_context_tokens,
            )
            for kind, _, copies in (stage or self.spec).caches_as_written(draft=self.draft)
            for slots in (self.slots[kind],)
        ]


def pack(
    spec: ModelSpec,
    kv_cache_dtype: str = "auto",
    beside: BesideDtypes = AS_ENGINES_DO,
    *,
    draft: bool = False,
) -> PackedCaches:
    """The model's caches in this KV dtype; draft layers too where asked for.

    Raises UsageError for a dtype that nobody knows, RefusedError where the format has no layout
    for this model.
    """
    stored = storage(spec, kv_cache_dtype, beside)
    caches = (*spec.caches_as_written(draft=draft), *spec.caches(draft=draft))
    kinds = dict.fromkeys(kind for kind, _, _ in caches)
    slots = {kind: _pack_entry(kind, stored) for kind in kinds}
    return PackedCaches(spec, stored.kv.name, slots, draft, stored)


def _pack_entry(kind: CacheKind, stored: Storage) -> tuple[PackedSlot, ...]:
    try:
        slots = stored.slots(kind)
        stored.kv.check_record([slot.role for slot in slots if slot.format is None])
        return tuple(_pack_slot(slot, stored.format(kind, slot)) for slot in slots)
    except (RefusedError, UsageError) as error:
        raise type(error)(f"{stored.spec.name}: {error.message}", error.hint) from None


def _pack_slot(slot: Slot, stored: CacheFormat) -> PackedSlot:
    return PackedSlot(slot, slot.heads, stored.name, stored.packing(slot.role, slot.width))


def footprint(
    spec: ModelSpec,
    context_tokens: int,
    sequences: int = 1,
    kv_cache_dtype: str = "auto",
    tensor_parallel: int = 1,
    context_parallel: int = 1,
    *,
    draft: bool = False,
    beside: BesideDtypes = AS_ENGINES_DO,
) -> Footprint:
    """What the model's caches take on each of ``tensor_parallel`` GPUs.

    ``context_tokens`` is the length of every one of ``sequences`` sequences; ``context_parallel``
    GPUs of the tensor-parallel group divide the entries that grow with it. Raises UsageError
    where heads cannot be divided, RefusedError where the format has no layout for this model.
    """
    for name, value in (
        ("context_tokens", context_tokens),
        ("sequences", sequences),
        ("tensor_parallel", tensor_parallel),
        ("context_parallel", context_parallel),
    ):
        whole(name, value)
    caches = pack(spec, kv_cache_dtype, beside, draft=draft)
    return caches.footprint(context_tokens, sequences, tensor_parallel, context_parallel)
