"""Block sizes: what the attention backends prefer, and what a hybrid's states make of it.

vLLM 0.33.0 platforms/interface.py: update_block_size_for_backend, _align_hybrid_block_size.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm

from kvplan.calc import PackedCaches
from kvplan.engines.settings import ServerSettings
from kvplan.engines.vllm.caches import BlockSizes, state_bytes
from kvplan.engines.vllm.versions import Rules, rules_of
from kvplan.kinds import CacheKind
from kvplan.units import ceil_div

_PACKED_BYTES, _ROW_BYTES = 576, 512
_WHOLE_REQUEST = 0
"""Tokens of a page of state where a request keeps one for its whole length."""


@dataclass(frozen=True, kw_only=True)
class Kernels:
    """What the chosen backends say of pages.

    ``preferred_tokens`` is the page on which all agree, ``least_tokens`` the smallest that the
    first one runs and ``common_tokens`` what every backend's smallest divides.
    ``checkpoint_tokens`` is what a state's checkpoints are a multiple of, None where the layers
    cannot export any inside a prefill; ``checkpoint_pages`` the pages that this takes.
    """

    preferred_tokens: int
    least_tokens: int
    common_tokens: int
    checkpoint_tokens: int | None = None
    checkpoint_pages: int = 0
    window_tokens: int | None = None
    packed: bool = False
    """Whether pages of unequal size lie side by side: a block-outermost layout."""


def block_sizes(
    caches: PackedCaches,
    tensor_parallel: int,
    settings: ServerSettings,
    kernels: Kernels,
) -> BlockSizes:
    """The pages of each kind of cache of this model on a tensor-parallel group."""
    tokens = settings.block_size or kernels.preferred_tokens
    drafts = drafted_tokens(caches, settings)
    states = _states(caches, tensor_parallel, drafts)
    alignment = _alignment(caches)
    if not states:
        return BlockSizes(
            attention_tokens=tokens,
            window_tokens=kernels.window_tokens,
            speculative_tokens=drafts,
            alignment_bytes=alignment,
        )
    rules, largest_bytes = rules_of(settings), max(states)
    token_bytes, is_latent = _attention(caches, tensor_parallel)
    # Without any attention, prefix caching is off (config/model.py:2280).
    caching = settings.enable_prefix_caching and rules.caches_states and token_bytes > 0
    padded_bytes = None
    if token_bytes and largest_bytes:
        step = (rules.latent_step_tokens or 1) if is_latent else 1
        aligned = _aligned_tokens(
            kernels, tokens, token_bytes, largest_bytes, step, caching=caching
        )
        tokens = max(tokens, aligned)
        page_bytes = tokens * token_bytes
        padded_bytes = None if page_bytes == largest_bytes else page_bytes
    return BlockSizes(
        attention_tokens=tokens,
        window_tokens=kernels.window_tokens,
        state_tokens=tokens if caching else _WHOLE_REQUEST,
        state_bytes=padded_bytes,
        state_pages=_state_pages(rules, kernels, drafts, caching=caching),
        speculative_tokens=drafts,
        alignment_bytes=alignment,
    )


def _state_pages(rules: Rules, kernels: Kernels, drafts: int, *, caching: bool) -> int:
    """Pages of a request for each state."""
    own = drafts if rules.drafts_take_states else 0
    return own + (2 + kernels.checkpoint_pages if caching else 1)


def drafted_tokens(caches: PackedCaches, settings: ServerSettings) -> int:
    """Tokens that are drafted at once: one for each MTP layer where nobody says how many.

    config/speculative.py: n_predict.
    """
    if settings.num_speculative_tokens is not None:
        return settings.num_speculative_tokens
    return sum(group.layers or 0 for group in caches.spec.draft) if caches.draft else 0


def retained_tokens(caches: PackedCaches, settings: ServerSettings) -> int:
    """Tokens below a window that a chain of MTP layers reads once more (config/vllm.py:655)."""
    drafts = drafted_tokens(caches, settings)
    modules = sum(group.layers or 0 for group in caches.spec.draft) if caches.draft else 0
    return drafts - 1 if min(modules, drafts) > 1 else 0


def is_hybrid(caches: PackedCaches, settings: ServerSettings) -> bool:
    """Whether the hybrid KV cache manager is on: chunks beside a drafter turn it off.

    config/vllm.py:2240.
    """
    drafts = caches.draft or caches.drafter is not None
    chunked = any(kind.kind == "chunked_local" for kind in _kinds(caches))
    return not settings.disable_hybrid_kv_cache_manager and not (chunked and drafts)


def _aligned_tokens(
    kernels: Kernels,
    tokens: int,
    token_bytes: int,
    largest_bytes: int,
    latent_step: int,
    *,
    caching: bool,
) -> int:
    """The least page of attention that is as large as a page of state."""
    step = max(kernels.least_tokens, tokens, latent_step)
    if caching:
        step = lcm(step, kernels.checkpoint_tokens or 1)
    aligned = step * ceil_div(largest_bytes, step * token_bytes)
    return ceil_div(aligned, kernels.common_tokens) * kernels.common_tokens


def _kinds(caches: PackedCaches) -> list[CacheKind]:
    """The kinds of the model's own layers, in the order in which they come first."""
    return list(dict.fromkeys(kind for group in caches.spec.groups for kind in group.caches))


def _states(caches: PackedCaches, tensor_parallel: int, drafts: int) -> list[int]:
    """Bytes of each different recurrent state on a GPU; empty for a model without any."""
    return [
        state_bytes(
            kind, tuple(slot.on_rank(tensor_parallel) for slot in caches.slots[kind]), drafts
        )
        for kind in _kinds(caches)
        if is_state(kind)
    ]


def is_state(kind: CacheKind) -> bool:
    """Whether the cache is one recurrent state a sequence."""
    return not kind.growth() and kind.entries(1) == kind.fixed_entries() == 1 and bool(kind.slots())


def _attention(caches: PackedCaches, tensor_parallel: int) -> tuple[int, bool]:
    """Bytes that a token takes in one attention layer on a GPU, and whether it is a latent.

    0 where no layer attends.
    """
    for kind in _kinds(caches):
        if kind.query_heads() is not None and not kind.per_encoder_input and kind.slots():
            slots = [slot.on_rank(tensor_parallel) for slot in caches.slots[kind]]
            is_latent = any(slot.role == "latent" for slot in slots)
            return sum(slot.bytes_per_entry for slot in slots), is_latent
    return 0, False


def _alignment(caches: PackedCaches) -> int:
    """DeepSeek-V4 alone rounds its pages up (models/deepseek_v4/attention.py:863)."""
    if not any(kind.kind == "compressed_kv" for kind in _kinds(caches)):
        return 1
    return _PACKED_BYTES if caches.kv_cache_dtype == "fp8_ds_mla" else _ROW_BYTES
