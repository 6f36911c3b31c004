"""The questions that every engine answers. One that is the arithmetic itself has no pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

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


class Pool(Protocol):
    """Pages of one layout's caches: as many on every GPU of a sequence group.

    A page of the pool (vLLM: block) serves the layers of one group at a time.
    """

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

    def pool(
        self, caches: PackedCaches, layout: Layout, settings: ServerSettings, gpu: Gpu
    ) -> Pool | None:
        """The pages of these caches; None where the engine is the arithmetic itself.

        Raises KvplanError with the engine's own reason where it would not start.
        """
