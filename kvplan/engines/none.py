"""No engine: plain arithmetic, to the byte, without pages, padding or an engine's own rules."""

from __future__ import annotations

from kvplan.calc import PackedCaches
from kvplan.engines.base import MemoryLine
from kvplan.engines.settings import ServerSettings
from kvplan.gpu import Gpu
from kvplan.parallel import Layout, check_layout
from kvplan.spec import ModelSpec
from kvplan.weights import StageLayers, WeightsLine, weights_on_rank


class Arithmetic:
    """What caches are, before anybody pages them."""

    name = "none"
    version = None

    def check(self, spec: ModelSpec, layout: Layout, settings: ServerSettings, gpu: Gpu) -> None:
        """What no engine could lay out."""
        del settings, gpu
        check_layout(spec, layout)

    def native_context(self, spec: ModelSpec) -> int | None:
        """As the config has it."""
        return spec.native_context_tokens

    def longest_context(self, spec: ModelSpec) -> int | None:
        """No bound."""
        del spec
        return None

    def check_context(self, spec: ModelSpec, context_tokens: int) -> None:
        """Any context is counted."""
        del spec, context_tokens

    def caches(self, caches: PackedCaches, settings: ServerSettings, gpu: Gpu) -> PackedCaches:
        """The caches as they are."""
        del settings, gpu
        return caches

    def weights(
        self,
        spec: ModelSpec,
        layout: Layout,
        stage: StageLayers,
        settings: ServerSettings,
        gpu: Gpu,
    ) -> tuple[WeightsLine, ...]:
        """The checkpoint's bytes, divided."""
        del settings, gpu
        return weights_on_rank(spec, layout, stage)

    def allowed_bytes(self, gpu: Gpu, share: float) -> int:
        """Whole bytes of the share."""
        return int(gpu.memory_bytes * share)

    def startup(
        self,
        spec: ModelSpec,
        layout: Layout,
        stage: StageLayers,
        settings: ServerSettings,
        gpu: Gpu,
        context_tokens: int,
    ) -> tuple[MemoryLine, ...]:
        """No engine, and so nothing of its own."""
        del spec, layout, stage, settings, gpu, context_tokens
        return ()

    def pool(
        self, caches: PackedCaches, layout: Layout, settings: ServerSettings, gpu: Gpu
    ) -> None:
        """No pages."""
        del caches, layout, settings, gpu
