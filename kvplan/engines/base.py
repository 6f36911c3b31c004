"""The questions that every engine answers, and the answer of an engine without pages."""

from __future__ import annotations

from typing import Protocol

from kvplan.calc import PackedCaches
from kvplan.engines.settings import ServerSettings
from kvplan.gpu import Gpu
from kvplan.parallel import Layout
from kvplan.spec import ModelSpec


class StagePages(Protocol):
    """How an engine pages the caches on one GPU of a pipeline stage."""

    @property
    def page_bytes(self) -> int:
        """Bytes of one page (vLLM: block) over all layers that share it, on this GPU."""

    @property
    def reserved_pages(self) -> int:
        """Pages of the pool that no sequence gets: vLLM's null block."""

    def pages(self, context_tokens: int) -> int:
        """Pages that the engine counts for one sequence of this context."""


class Engine(Protocol):
    """One version of an engine: what it accepts, how it pages caches, what it prints."""

    name: str
    version: str | None

    def check(self, spec: ModelSpec, layout: Layout, settings: ServerSettings, gpu: Gpu) -> None:
        """Raises RefusedError with the engine's own reason where it would not start."""

    def stage_pages(
        self, caches: PackedCaches, layout: Layout, settings: ServerSettings, gpu: Gpu
    ) -> tuple[StagePages, ...] | None:
        """The pages of each pipeline stage; None of an engine that is the arithmetic itself."""
