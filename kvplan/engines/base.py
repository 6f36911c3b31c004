"""The questions that every engine answers. One that is the arithmetic itself has no pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt
from typing import Literal, Protocol

from kvplan.calc import PackedCaches
from kvplan.engines.settings import ServerSettings
from kvplan.gpu import Gpu
from kvplan.parallel import Layout
from kvplan.spec import ModelSpec
from kvplan.weights import StageLayers, WeightsLine


@dataclass(frozen=True)
class Waste:
    """Bytes of pages that are no cache's own, and why they are taken."""

    name: str
    size_bytes: int
    reason: str


Basis = Literal["formula", "measured", "assumed"]


@dataclass(frozen=True)
class MemoryLine:
    """Bytes of one GPU that are neither weights nor caches, between ``low`` and ``high``."""

    name: str
    size_bytes: int
    low_bytes: int
    high_bytes: int
    basis: Basis
    note: str


def total(lines: Iterable[MemoryLine]) -> tuple[int, int, int]:
    """All lines together: figure, low and high.

    What is less of one line for fewer sequences is less of all; what is more is taken to be so of
    each line on its own.
    """
    known = tuple(lines)
    size_bytes = sum(line.size_bytes for line in known)
    more = isqrt(sum((line.high_bytes - line.size_bytes) ** 2 for line in known))
    return size_bytes, sum(line.low_bytes for line in known), size_bytes + more


class Pool(Protocol):
    """Pages of one layout's caches: as many on every GPU of a sequence group.

    A page of the pool (vLLM: block) serves the layers of one group at a time.
    """

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What the pages rest on that neither model nor GPU says, a sentence each."""

    @property
    def page_tokens(self) -> int:
        """Tokens of a page of attention."""

    @property
    def reserved_pages(self) -> int:
        """Pages that no sequence gets."""

    @property
    def stage_page_bytes(self) -> Sequence[int]:
        """Bytes of a page on a GPU of each pipeline stage."""

    def pages(self, context_tokens: int) -> int:
        """Pages that the engine counts for one sequence of this context."""

    def printed_tokens(self, pages: int) -> int | None:
        """Tokens that the engine prints for so many pages; None: concurrency times the context."""

    def max_num_seqs(self, context_tokens: int) -> int:
        """Sequences that a group runs at once at the most, where nobody says how many."""

    def request_pages(self, tokens: int, context_tokens: int) -> int:
        """Pages of a request of so many tokens, on a server for contexts of ``context_tokens``."""

    @property
    def state_pages(self) -> int:
        """Pages of a sequence before its first token: recurrent states; 0 without any."""

    def growth(self, stage: int) -> Fraction:
        """Bytes that one more token of a long sequence takes on a GPU of this stage."""

    def waste(self, stage: int, context_tokens: int, sequences: int) -> tuple[Waste, ...]:
        """What pages take beyond the caches on a GPU of this stage, all but their unfilled ends."""


class Engine(Protocol):
    """One version of an engine."""

    @property
    def name(self) -> str:
        """As ``--engine`` has it."""

    @property
    def version(self) -> str | None:
        """The version whose rules these are."""

    def check(self, spec: ModelSpec, layout: Layout, settings: ServerSettings, gpu: Gpu) -> None:
        """Raises UsageError for a layout that cannot be, RefusedError for one that it refuses."""

    def native_context(self, spec: ModelSpec) -> int | None:
        """Tokens of the context that it serves where none is given; None where not known."""

    def longest_context(self, spec: ModelSpec) -> int | None:
        """The longest context that it serves at all; None where it has no bound."""

    def check_context(self, spec: ModelSpec, context_tokens: int) -> None:
        """Raises RefusedError for a context that it does not serve."""

    def caches(self, caches: PackedCaches, settings: ServerSettings, gpu: Gpu) -> PackedCaches:
        """The caches that the engine keeps of this model, in the formats that it chooses.

        ``caches`` itself where these are the same. Raises KvplanError with the engine's own reason
        where it does not serve the model, or not in this KV dtype on this GPU.
        """

    def weights(
        self,
        spec: ModelSpec,
        layout: Layout,
        stage: StageLayers,
        settings: ServerSettings,
        gpu: Gpu,
    ) -> tuple[WeightsLine, ...]:
        """What a GPU of this stage holds of a model's weights, part by part."""

    def allowed_bytes(self, gpu: Gpu, share: float) -> int:
        """What of the GPU's memory it takes at this share."""

    def startup(
        self,
        spec: ModelSpec,
        layout: Layout,
        stage: StageLayers,
        settings: ServerSettings,
        gpu: Gpu,
        context_tokens: int,
    ) -> tuple[MemoryLine, ...]:
        """What it sets aside beside weights before the first page; empty where nobody says."""

    def pool(
        self, caches: PackedCaches, layout: Layout, settings: ServerSettings, gpu: Gpu
    ) -> Pool | None:
        """The pages of these caches; None where the engine is the arithmetic itself.

        Raises KvplanError with the engine's own reason where it would not start.
        """
