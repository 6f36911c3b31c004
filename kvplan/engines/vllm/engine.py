"""vLLM as one of the engines: 0.33.0, and older releases where ``versions`` knows their rules."""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

from kvplan.calc import PackedCaches, pack
from kvplan.engines.base import MemoryLine
from kvplan.engines.settings import ServerSettings
from kvplan.engines.vllm.architectures import architecture_notes
from kvplan.engines.vllm.backends import backends
from kvplan.engines.vllm.blocks import retained_tokens
from kvplan.engines.vllm.caches import BlockSizes
from kvplan.engines.vllm.context import check_context, longest_context, served_context
from kvplan.engines.vllm.groups import Groups
from kvplan.engines.vllm.layers import Load
from kvplan.engines.vllm.legality import check
from kvplan.engines.vllm.models import as_vllm_keeps
from kvplan.engines.vllm.pool import BlockPool, grouped, stage_ends
from kvplan.engines.vllm.scheduler import (
    max_in_flight_tokens,
    max_num_batched_tokens,
    max_num_seqs,
)
from kvplan.engines.vllm.startup import startup
from kvplan.engines.vllm.versions import NEWEST, rules_of
from kvplan.engines.vllm.weights import loaded_weights
from kvplan.errors import KvplanError, RefusedError
from kvplan.gpu import Gpu
from kvplan.parallel import Layout, check_layout
from kvplan.spec import ModelSpec
from kvplan.weights import StageLayers, WeightsLine

_LEAST_BLOCK = 32
"""model_executor/layers/fused_moe/oracle/fp8.py:292, refine_fp8_moe_block_shape."""


class _Grouped(NamedTuple):
    """What layouts of one tensor-parallel group have in common."""

    blocks: BlockSizes
    groups: Groups
    assumptions: tuple[str, ...]


class Vllm:
    """One release, of one model under one question."""

    name = "vllm"

    def __init__(self, version: str | None = None) -> None:
        self.version = version or NEWEST.release
        self._refusals: dict[tuple[str | int, ...], KvplanError | None] = {}
        self._known: dict[tuple[int, ...], _Grouped] = {}

    def check(self, spec: ModelSpec, layout: Layout, settings: ServerSettings, gpu: Gpu) -> None:
        """What vLLM refuses, in its words; then what nobody could lay out."""
        key = (spec.name, layout.tensor, layout.pipeline, layout.context, layout.prefill)
        if key not in self._refusals:
            self._refusals[key] = _refusal(spec, layout, settings, gpu)
        refusal = self._refusals[key]
        if refusal is not None:
            raise refusal
        check_layout(spec, layout, _LEAST_BLOCK)

    def native_context(self, spec: ModelSpec) -> int | None:
        """max_model_len where none is given."""
        return served_context(spec)

    def longest_context(self, spec: ModelSpec) -> int | None:
        """What the config derives."""
        return longest_context(spec)

    def check_context(self, spec: ModelSpec, context_tokens: int) -> None:
        """Raises RefusedError for a longer context than the config derives."""
        check_context(spec, context_tokens)

    def caches(self, caches: PackedCaches, settings: ServerSettings, gpu: Gpu) -> PackedCaches:
        """The caches that vLLM registers for this model, in the dtype that its backend stores.

        Raises RefusedError where vLLM does not serve it so.
        """
        if caches.draft and not caches.spec.draft:
            raise RefusedError(
                f"{caches.spec.name} names no MTP layers: whether vLLM drafts with any, and with "
                "which, is not known",
                "leave the drafter out, or state the layers in a spec's draft",
            )
        kept = _kept(caches, settings, gpu, settings.kv_cache_dtype)
        drafter = caches.drafter
        if drafter is not None:
            drafter = _kept(drafter, settings, gpu, drafter.kv_cache_dtype)
        return kept if kept is caches else kept.beside(drafter)

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

    def allowed_bytes(self, gpu: Gpu, share: float) -> int:
        """Rounded up, as vLLM does (v1/worker/utils.py:716)."""
        return ceil(gpu.memory_bytes * share)

    def startup(
        self,
        spec: ModelSpec,
        layout: Layout,
        stage: StageLayers,
        settings: ServerSettings,
        gpu: Gpu,
        context_tokens: int,
    ) -> tuple[MemoryLine, ...]:
        """Activations, CUDA graphs, buffers and the rest, each with its range."""
        return startup(spec, layout, stage, settings, gpu, context_tokens)

    def pool(
        self, caches: PackedCaches, layout: Layout, settings: ServerSettings, gpu: Gpu
    ) -> BlockPool:
        """Its block pool in this layout. Raises RefusedError where vLLM would not start."""
        blocks, groups, assumptions = self._grouped(caches, layout, settings, gpu)
        ends = stage_ends(caches, layout)

        def load(context_tokens: int) -> Load:
            return Load(
                context_tokens=context_tokens,
                in_flight_tokens=max_in_flight_tokens(
                    settings, gpu, layout, context_tokens, caches.spec
                ),
                context_parallel=layout.context,
                retained_tokens=retained_tokens(caches, settings),
                # config/scheduler.py:306: max_num_encoder_input_tokens
                encoder_tokens=max_num_batched_tokens(settings, gpu, context_tokens, caches.spec),
            )

        return BlockPool(
            groups=groups,
            blocks=blocks,
            ends=ends,
            stage_page_bytes=groups.block_bytes(ends),
            load=load,
            rules=rules_of(settings),
            assumptions=assumptions,
            max_num_seqs=lambda tokens: max_num_seqs(settings, gpu, tokens, caches.spec),
        )

    def _grouped(
        self, caches: PackedCaches, layout: Layout, settings: ServerSettings, gpu: Gpu
    ) -> _Grouped:
        """Block sizes and groups, worked out once for layouts that differ in neither."""
        key = (layout.tensor, layout.context, layout.prefill)
        if key not in self._known:
            spec = caches.spec
            chosen = backends(spec, layout, settings, gpu, settings.kv_cache_dtype)
            blocks, groups = grouped(caches, layout.tensor, settings, chosen.kernels)
            assumptions = (*architecture_notes(spec), *chosen.assumptions)
            self._known[key] = _Grouped(blocks, groups, assumptions)
        return self._known[key]


def _refusal(
    spec: ModelSpec, layout: Layout, settings: ServerSettings, gpu: Gpu
) -> KvplanError | None:
    try:
        check(spec, layout, settings, gpu)
    except KvplanError as refusal:
        return refusal
    return None


def _kept(
    caches: PackedCaches, settings: ServerSettings, gpu: Gpu, kv_cache_dtype: str
) -> PackedCaches:
    spec = as_vllm_keeps(caches.spec, caches.stored.beside)
    stored = backends(spec, Layout(), settings, gpu, kv_cache_dtype).kv_cache_dtype
    if spec is caches.spec and stored == caches.kv_cache_dtype:
        return caches
    return pack(spec, stored, caches.stored.beside, draft=caches.draft)
