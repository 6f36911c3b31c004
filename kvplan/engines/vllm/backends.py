"""Which attention backend each layer gets, the pages that follow, and the KV dtype as stored.

vLLM 0.33.0 v1/attention/selector.py, platforms/cuda.py and platforms/interface.py:750.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import lcm

from kvplan.dtypes import resolved_format
from kvplan.engines.settings import ServerSettings
from kvplan.engines.vllm.blocks import Kernels
from kvplan.engines.vllm.construction import against_construction
from kvplan.engines.vllm.kernels import (
    AUTO,
    BLACKWELL,
    HOPPER,
    ORDINARY,
    ROCM,
    Backend,
    Capability,
    Wanted,
    ordinary_order,
)
from kvplan.engines.vllm.latent_kernels import LATENT, latent_order, stored_dtype
from kvplan.engines.vllm.own_kernels import (
    own_backend,
    packs_blocks,
    prefill_checkpoints,
    state_backend,
)
from kvplan.engines.vllm.versions import rules_of
from kvplan.errors import RefusedError
from kvplan.gpu import Gpu
from kvplan.kinds import CacheKind
from kvplan.kinds.full_attention import AttentionHeads
from kvplan.kinds.index_keys import IndexKeys
from kvplan.kinds.mla import LatentAttention
from kvplan.parallel import Layout, heads_on_rank
from kvplan.spec import ModelSpec

DEFAULT_BLOCK_TOKENS = 16  # config/cache.py, CacheConfig.DEFAULT_BLOCK_SIZE
_MANY_TOKENS = 1 << 20

_Chosen = Sequence[tuple[CacheKind, Backend]]

_IMAGE_PREFIX = (
    *("Gemma3ForConditionalGeneration", "PaliGemmaForConditionalGeneration"),
    *("Gemma4ForConditionalGeneration", "Molmo2ForConditionalGeneration"),
)
"""Architectures in which an image's tokens see one another: transformers_utils/
model_arch_config_convertor.py, is_mm_prefix_lm."""
_SINKS = ("GptOssForCausalLM",)


@dataclass(frozen=True)
class Backends:
    """The backends of a model's layers on one GPU, by kind of cache.

    ``kv_cache_dtype`` is the dtype in which keys and values are stored, which may be another than
    the one asked for: a sparse backend has a format of its own.
    """

    layers: tuple[tuple[CacheKind, str], ...]
    """Each kind of cache with its backend; a kind has two where some of its layers are sparse."""
    kernels: Kernels
    kv_cache_dtype: str
    assumptions: tuple[str, ...] = ()


def backends(
    spec: ModelSpec,
    layout: Layout,
    settings: ServerSettings,
    gpu: Gpu,
    kv_cache_dtype: str = AUTO,
) -> Backends:
    """The backends that vLLM chooses for the caches of ``as_vllm_keeps``.

    Raises RefusedError, in vLLM's words, where none is valid.
    """
    asked = _Asked(spec, layout, settings, _capability(gpu), _dtype(spec, kv_cache_dtype, gpu))
    chosen = [(kind, asked.backend(kind, indexed=indexed)) for kind, indexed in _kinds(spec)]
    stored = asked.dtype
    for _, backend in chosen:
        if backend is not None:
            stored = stored_dtype(backend, stored, asked.capability)
    names = ((kind, row.name if row else state_backend(spec, kind)) for kind, row in chosen)
    return Backends(
        layers=tuple(names),
        kernels=_kernels(asked, [(kind, row) for kind, row in chosen if row is not None]),
        kv_cache_dtype=spec.dtype if stored == AUTO else stored,
        assumptions=_assumptions(gpu),
    )


def _kinds(spec: ModelSpec) -> tuple[tuple[CacheKind, bool], ...]:
    """The kinds of the model's layers, and whether an indexer stands beside them."""
    pairs = (
        (kind, any(isinstance(other, IndexKeys) for other in group.caches))
        for group in spec.groups
        for kind in group.caches
        if kind.slots()
    )
    return tuple(dict.fromkeys(pairs))


_AMD = ("mi", "rx-", "r9700")
"""How the names of AMD's GPUs begin, which state no compute capability."""
_ASSUMED_CAPABILITY = "9.0"


def _capability(gpu: Gpu) -> Capability:
    """The GPU's compute capability. Raises RefusedError for what vLLM itself does not run on."""
    stated = gpu.compute_capability
    if stated is None and gpu.name.lower().startswith(_AMD):
        return ROCM
    if stated is None and gpu.memory_basis != "given":
        raise RefusedError(
            f"vLLM 0.33.0 runs on NVIDIA and AMD GPUs; what a plugin does on {gpu.name} is not "
            "known here",
            "leave engine out: plain arithmetic knows the caches' bytes",
        )
    major, _, minor = (stated or _ASSUMED_CAPABILITY).partition(".")
    return int(major), int(minor)


def _assumptions(gpu: Gpu) -> tuple[str, ...]:
    if gpu.compute_capability is not None:
        return ()
    if _capability(gpu) == ROCM:
        return (f"{gpu.name}: blocks are those of vLLM's kernels without VLLM_ROCM_USE_AITER",)
    said = f"blocks are those of vLLM's kernels on {_ASSUMED_CAPABILITY} (H100)"
    return (f"{gpu.name} states no compute_capability: {said}",)


_PLAIN_CACHES = ("FalconForCausalLM", "RWForCausalLM")
"""Their attention is made without the cache's configuration, so its dtype is the model's whatever
is asked for (model_executor/models/falcon.py:173)."""


def _dtype(spec: ModelSpec, kv_cache_dtype: str, gpu: Gpu) -> str:
    """The dtype as vLLM resolves it before layers are made (models/config.py)."""
    if spec.architecture in _PLAIN_CACHES:
        return AUTO
    named = kv_cache_dtype.lower()
    if named == AUTO:
        if spec.kv_cache_dtype in (None, "fp8_ds_mla"):
            return _default_dtype(spec, gpu)
        # ModelOpt's fp8 is fp8_e4m3 (utils/torch_utils.py:78), which not every backend takes.
        named = "fp8_e4m3" if spec.kv_cache_dtype == "fp8" else spec.kv_cache_dtype
    stored = resolved_format(spec, named).name
    return AUTO if stored == spec.dtype else stored


def _default_dtype(spec: ModelSpec, gpu: Gpu) -> str:
    """Some classes have an own default on Blackwell (config.py:89, 119)."""
    name = spec.architecture or ""
    if _capability(gpu)[0] == BLACKWELL:
        if name == "GlmMoeDsaForCausalLM":
            return "fp8_e4m3"
        if name.startswith("Glm5Next") and _is_sparse(spec):
            return "fp8"
    return AUTO


def _is_sparse(spec: ModelSpec) -> bool:
    """Whether latents are read through DeepSeek's indexer."""
    return any(isinstance(kind, IndexKeys) and kind.tag() == "DSA" for kind, _ in _kinds(spec))


def _has_image_prefix(spec: ModelSpec) -> bool:
    """Gemma 4 26B and 31B are published with ``use_bidirectional_attention: vision``.

    E2B and E4B, which share caches between layers, are not.
    """
    name = spec.architecture or ""
    shares = any(kind.kind == "kv_shared" for group in spec.groups for kind in group.caches)
    return name in _IMAGE_PREFIX and not (name.startswith("Gemma4") and shares)


@dataclass(frozen=True)
class _Asked:
    """One question: the model on a GPU of a layout."""

    spec: ModelSpec
    layout: Layout
    settings: ServerSettings
    capability: Capability
    dtype: str

    def backend(self, kind: CacheKind, *, indexed: bool) -> Backend | None:
        """The backend of this kind of cache; None for a recurrent state, which has its own."""
        asks_for = self.settings.attention_backend or ""
        own = own_backend(self.spec, kind, self.capability, asks_for.upper(), indexed=indexed)
        if own is not None:
            return self._built(own, self.wanted(kind))
        if isinstance(kind, LatentAttention | AttentionHeads):
            return self._chosen(self.wanted(kind))
        return None

    def wanted(self, kind: CacheKind) -> Wanted:
        """What a layer of this kind asks of a backend."""
        layout = self.layout
        asks = Wanted(
            capability=self.capability,
            head_size=1,
            dtype=self.spec.dtype,
            kv_cache_dtype=self.dtype,
            block_size=self.settings.block_size,
            query_heads=max((kind.query_heads() or 1) // layout.tensor, 1),
            prefill_context_parallel=getattr(layout, "prefill", 1),
            context_parallel=layout.context,
        )
        if isinstance(kind, LatentAttention):
            return replace(
                asks,
                head_size=kind.kv_lora_rank + kind.qk_rope_head_dim,
                latent=(
                    kind.kv_lora_rank,
                    kind.qk_rope_head_dim,
                    kind.qk_nope_head_dim,
                    kind.v_head_dim,
                ),
                is_sparse=_is_sparse(self.spec),
            )
        if not isinstance(kind, AttentionHeads):
            return asks
        return replace(
            asks,
            head_size=kind.head_dim,
            kv_heads=heads_on_rank(kind.slots()[0], layout.tensor),
            has_sink=self.spec.architecture in _SINKS,
            has_image_prefix=_has_image_prefix(self.spec),
            is_cross=kind.per_encoder_input,
            slides=kind.kind == "sliding_window",
        )

    def _built(self, backend: Backend, wanted: Wanted) -> Backend:
        """The backend itself. Raises RefusedError where it is chosen and then cannot be made."""
        against = against_construction(backend, wanted)
        if against is None:
            return backend
        raise RefusedError(f"{self.spec.name}: vLLM 0.33.0 refuses it: {against}")

    def _chosen(self, wanted: Wanted) -> Backend:
        """The first valid backend, or the one asked for (platforms/cuda.py:399)."""
        order = latent_order(wanted) if wanted.latent else ordinary_order(wanted)
        name = self.settings.attention_backend
        if name is not None:
            return self._selected(name.upper(), wanted)
        refused: dict[str, list[str]] = {}
        for backend in order:
            reasons = backend.reasons(wanted)
            if not reasons:
                return self._built(backend, wanted)
            refused[backend.name] = reasons
        platform = "rocm" if wanted.is_rocm else "cuda"
        listed = ", ".join(f"{name}: [{', '.join(why)}]" for name, why in refused.items())
        raise RefusedError(
            f"{self.spec.name}: vLLM 0.33.0 refuses it: No valid attention backend found for "
            f"{platform} with head_size={wanted.head_size}, dtype={wanted.dtype}, "
            f"kv_cache_dtype={wanted.kv_cache_dtype}. Reasons: {{{listed}}}."
        )

    def _selected(self, name: str, wanted: Wanted) -> Backend:
        known = {row.name: row for row in ORDINARY} | LATENT
        if name not in known:
            raise RefusedError(
                f"attention_backend {name} is not known here: its pages are not known",
                f"one of: {', '.join(known)}",
            )
        reasons = known[name].reasons(wanted)
        if reasons:
            raise RefusedError(
                f"{self.spec.name}: vLLM 0.33.0 refuses it: Selected backend {name} is not valid "
                f"for this configuration. Reason: {reasons}"
            )
        return self._built(known[name], wanted)


def _kernels(asked: _Asked, chosen: _Chosen) -> Kernels:
    """The pages on which all chosen backends agree (interface.py:700)."""
    asks = [(asked.wanted(kind), backend) for kind, backend in chosen]
    widest = max((wanted.head_size for wanted, _ in asks), default=1)
    pages: dict[str, tuple[Backend, tuple[int, ...], Wanted]] = {}
    for own, backend in asks:
        wanted = replace(own, head_size=widest, block_size=None)
        pages.setdefault(backend.name, (backend, backend.blocks(wanted), wanted))
    rows = list(pages.values())
    checkpoint_tokens, checkpoint_pages = prefill_checkpoints(
        asked.spec, asked.capability, asked.settings
    )
    if not rows:
        return Kernels(
            preferred_tokens=DEFAULT_BLOCK_TOKENS,
            least_tokens=1,
            common_tokens=1,
            checkpoint_tokens=checkpoint_tokens,
            checkpoint_pages=checkpoint_pages,
        )
    preferred = _given(asked, rows) or _forced(asked, chosen) or _preferred(rows)
    return Kernels(
        preferred_tokens=preferred,
        least_tokens=min(rows[0][1]),
        common_tokens=lcm(*(min(sizes) for _, sizes, _ in rows)),
        checkpoint_tokens=checkpoint_tokens,
        checkpoint_pages=checkpoint_pages,
        window_tokens=_window_tokens(asked, chosen, preferred),
        packed=packs_blocks(backend for _, backend in chosen),
    )


def _given(asked: _Asked, rows: Sequence[tuple[Backend, tuple[int, ...], Wanted]]) -> int | None:
    """--block-size, which every backend has to be able to split (v1/worker/utils.py:555)."""
    tokens = asked.settings.block_size
    if tokens is None or all(any(tokens % size == 0 for size in sizes) for _, sizes, _ in rows):
        return tokens
    names = "; ".join(f"{backend.name}: {list(sizes)}" for backend, sizes, _ in rows)
    raise RefusedError(
        f"{asked.spec.name}: vLLM 0.33.0 refuses it: No common block size for {tokens} ({names})."
    )


def _forced(asked: _Asked, chosen: _Chosen) -> int | None:
    """The page that older releases force on latents of Hopper (platforms/cuda.py of 0.9 to 0.17).

    A hybrid's page is a multiple of it already.
    """
    latent = any(isinstance(kind, LatentAttention) for kind, _ in chosen)
    states = any(kind.fixed_entries() == 1 for kind, _ in _kinds(asked.spec))
    if latent and not states and asked.capability[0] == HOPPER:
        return rules_of(asked.settings).hopper_latent_tokens
    return None


def _preferred(rows: Iterable[tuple[Backend, tuple[int, ...], Wanted]]) -> int:
    listed = list(rows)
    if len(listed) == 1:
        backend, _, wanted = listed[0]
        return backend.preferred_tokens(wanted, DEFAULT_BLOCK_TOKENS)
    sizes = [blocks for _, blocks, _ in listed]
    for tokens in (DEFAULT_BLOCK_TOKENS, *sorted({lcm(*each) for each in product(*sizes)})):
        if all(any(tokens % size == 0 for size in blocks) for blocks in sizes):
            return tokens
    names = "; ".join(f"{backend.name}: {list(blocks)}" for backend, blocks, _ in listed)
    raise RefusedError(
        f"vLLM 0.33.0: The attention backends share no supported KV cache block size ({names})."
    )


def _window_tokens(asked: _Asked, chosen: _Chosen, preferred: int) -> int | None:
    """The page of windows whose kernels have few sizes (attention.py:101); None: any is one.

    Recurrent states make the attention's page longer than any of these.
    """
    attending = {kind for kind, _ in chosen}
    has_states = any(kind not in attending for kind, _ in _kinds(asked.spec))
    most = _MANY_TOKENS if has_states else preferred
    for kind, backend in chosen:
        if kind.kind == "sliding_window" and not backend.multiples:
            sizes = backend.blocks(asked.wanted(kind))
            return max((size for size in sizes if size <= most), default=min(sizes))
    return None
