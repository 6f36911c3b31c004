"""vLLM 0.33.0 as one of the engines."""

from __future__ import annotations

from kvplan.calc import PackedCaches, pack
from kvplan.engines.settings import ServerSettings
from kvplan.engines.vllm.blocks import Kernels
from kvplan.engines.vllm.layers import Load
from kvplan.engines.vllm.models import as_vllm_keeps
from kvplan.engines.vllm.pool import BlockPool, block_pool
from kvplan.engines.vllm.scheduler import (
    max_in_flight_tokens,
    max_num_batched_tokens,
    max_num_seqs,
)
from kvplan.engines.vllm.weights import loaded_weights
from kvplan.gpu import Gpu
from kvplan.parallel import Layout
from kvplan.spec import ModelSpec
from kvplan.weights import StageLayers, WeightsLine


class Vllm:
    """The newest version that is known."""

    name = "vllm"
    version = "0.33.0"

    def caches(self, caches: PackedCaches, settings: ServerSettings, gpu: Gpu) -> PackedCaches:
        """The caches that vLLM registers for this model. Raises RefusedError."""
        del gpu
        spec = as_vllm_keeps(caches.spec, caches.stored.beside)
        if spec is caches.spec:
            return caches
        kept = pack(spec, settings.kv_cache_dtype, caches.stored.beside, draft=caches.draft)
        return kept.beside(caches.drafter)

    def weights(
        self,
        spec: ModelSpec,
        layout: Layout,
        stage: StageLayers,
        settings: ServerSettings,
        gpu: Gpu,
    ) -> tuple[WeightsLine, ...]:
        """Weights as it pads, copies and repacks them."""
        return loaded_weights(spec, layout, stage, settings, gpu)

    def pool(
        self, caches: PackedCaches, layout: Layout, settings: ServerSettings, gpu: Gpu
    ) -> BlockPool:
        """Its block pool in this layout. Raises RefusedError where vLLM would not start."""
        kernels = Kernels(preferred_tokens=16, least_tokens=16, common_tokens=16)

        def load(context_tokens: int) -> Load:
            return Load(
                context_tokens=context_tokens,
                in_flight_tokens=max_in_flight_tokens(settings, gpu, layout, context_tokens),
                # config/scheduler.py:306: max_num_encoder_input_tokens
                encoder_tokens=max_num_batched_tokens(settings, gpu, context_tokens),
            )

        def sequences(context_tokens: int) -> int:
            return max_num_seqs(settings, gpu, context_tokens)

        return block_pool(caches, layout, settings, kernels, load, sequences)
