"""What releases of vLLM count otherwise than 0.33.0, and since which release each rule holds.

Read from the sources of every release listed, file by file; paths are those of the first release
that has the rule. A new release that counts as the last one did is a name in ``RELEASES`` of
engines/versions.py; one that does not is a line of ``_CHANGES``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from kvplan.engines.settings import ServerSettings
from kvplan.engines.versions import release_number
from kvplan.units import GIB

_KEEPS_FP8 = frozenset({"auto", "fp8", "fp8_e4m3", "fp8_e5m2"})


@dataclass(frozen=True, kw_only=True)
class Rules:
    """One release's accounting, where releases differ. The defaults are those of 0.9.1."""

    release: str = "0.9.1"
    prints_concurrency: bool = False
    """Whether "GPU KV cache size" is the concurrency times max_model_len; before, the blocks of
    each group times the shortest page of any (v1/core/kv_cache_utils.py, _report_kv_cache_config).
    """
    checks_null_block: bool = False
    """Whether the check that one request fits leaves the null block out of its room."""
    in_flight_batches: bool = False
    """Whether windows keep the tokens of all batches in flight; before, of one step."""
    much_more: float = 1.0
    """Kinds of layers of which the largest has fewer than so many times the layers of the smallest
    are padded to the largest; before 0.12 groups are always as large as the smallest."""
    mixes_pages: bool = False
    """Whether full layers of different pages may share a table (UniformTypeKVCacheSpecs)."""
    resizes_pages: bool = False
    """Whether a page that divides the largest is given more tokens."""
    pads_pages: bool = False
    """Whether any other page of attention is padded, whatever its kernel."""
    keeps_chunks: bool = False
    """Whether the hybrid manager is on for chunked attention by default (envs.py,
    VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE)."""
    has_states: bool = False
    """Whether recurrent models run by default on the engine whose pages these are."""
    names_state_dtypes: bool = False
    """Whether the dtype of Nemotron-H's states is as in 0.33.0 (models/config.py)."""
    widens_windows: bool = False
    """Whether windows of Cohere hold the token itself and sliding_window more (commandr.py)."""
    divides_context: bool = False
    """Whether there is decode context parallelism."""
    caches_states: bool = False
    """Whether recurrent models have prefix caching by default, in "align" mode."""
    drafts_take_states: bool = False
    """Whether a request takes one more state for each draft token."""
    checkpoints_states: bool = False
    """Whether a prefill exports checkpoints of a state."""
    latent_step_tokens: int | None = None
    """What a page of latents beside recurrent states is a multiple of; None: no such models."""
    hopper_latent_tokens: int | None = 64
    """The page forced on latents of Hopper, whatever kernel is chosen; None: the kernel's own."""
    has_indexers: bool = False
    """Whether the sparse attention of DeepSeek-V3.2 keeps by default what it keeps in 0.33.0."""
    kv_cache_dtypes: frozenset[str] = _KEEPS_FP8
    large_gpu_bytes: int | None = None
    """Memory of a GPU whose steps have 16,384 tokens in ``vllm serve``."""
    small_gb10: bool = False
    """Whether GB10 has the defaults of a small GPU (engine/arg_utils.py, get_batch_defaults)."""
    counts_device: bool = True
    """Whether "Model loading took" on ROCm is all that the device had less, caches of torch's
    allocator with it, and not what is allocated (platforms/rocm.py, get_current_memory_usage)."""
    is_newest: bool = False
    """Whether block-outermost layouts and prefill context parallelism are as in 0.33.0."""


_OF_0_29: dict[str, object] = {
    "checks_null_block": True,
    "checkpoints_states": True,
    "pads_pages": True,
    "widens_windows": True,
}

_CHANGES: tuple[tuple[str, dict[str, object]], ...] = (
    # v1/kv_cache_interface.py, FullAttentionSpec.max_memory_usage_bytes
    ("0.10.0", {"keeps_chunks": True}),
    ("0.10.1.1", {"keeps_chunks": False}),
    ("0.10.2", {"divides_context": True}),
    # v1/kv_cache_interface.py, UniformTypeKVCacheSpecs; config/cache.py, CacheDType
    (
        "0.11.0",
        {
            "mixes_pages": True,
            "has_states": True,
            "kv_cache_dtypes": _KEEPS_FP8 | {"bfloat16"},
        },
    ),
    # model_executor/models/config.py, HybridAttentionMambaModelConfig
    ("0.11.1", {"latent_step_tokens": 64}),
    # v1/core/kv_cache_utils.py, _get_kv_cache_groups_uniform_page_size and
    # unify_kv_cache_spec_page_size
    ("0.12.0", {"much_more": 1.25, "resizes_pages": True}),
    ("0.14.0", {"keeps_chunks": True}),
    # v1/kv_cache_interface.py, MambaSpec.max_memory_usage_bytes
    ("0.15.1", {"drafts_take_states": True}),
    # v1/core/kv_cache_utils.py:1046; platforms/interface.py:427, update_block_size_for_backend;
    # models/config.py, DeepseekV32ForCausalLM: "auto" was fp8_ds_mla before
    (
        "0.18.0",
        {
            "much_more": 1.5,
            "hopper_latent_tokens": None,
            "has_indexers": True,
            "kv_cache_dtypes": _KEEPS_FP8 | {"bfloat16", "float16", "fp8_ds_mla"},
        },
    ),
    # platforms/interface.py:502, _align_hybrid_block_size; config/cache.py; models/config.py
    (
        "0.20.0",
        {
            "names_state_dtypes": True,
            "latent_step_tokens": 1,
            "kv_cache_dtypes": _KEEPS_FP8
            | {"bfloat16", "float16", "fp8_ds_mla", "nvfp4"}
            | {"int8_per_token_head", "fp8_per_token_head"},
        },
    ),
    # v1/core/kv_cache_utils.py, _report_kv_cache_config
    ("0.20.1", {"prints_concurrency": True}),
    # platforms/rocm.py, get_current_memory_usage
    ("0.21.0", {"counts_device": False}),
    # config/cache.py, CacheDType
    (
        "0.25.0",
        {
            "kv_cache_dtypes": _KEEPS_FP8
            | {"bfloat16", "float16", "fp8_ds_mla", "nvfp4", "int4_per_token_head"}
            | {"int8_per_token_head", "fp8_per_token_head"},
        },
    ),
    # config/vllm.py:525, max_in_flight_tokens; config/model.py, is_prefix_caching_supported
    ("0.26.0", {"in_flight_batches": True, "caches_states": True}),
    # platforms/interface.py, _align_hybrid_block_size: latents take 128 at least
    ("0.27.0", {"latent_step_tokens": 128}),
    # engine/arg_utils.py, get_batch_defaults
    ("0.28.0", {"large_gpu_bytes": 160 * GIB}),
    # v1/core/kv_cache_utils.py:979; v1/kv_cache_interface.py, num_prefill_checkpoint_blocks
    ("0.29.0", _OF_0_29),
    # engine/arg_utils.py, get_batch_defaults; v1/core/kv_cache_planning.py
    ("0.33.0", {"small_gb10": True, "is_newest": True}),
)
"""Releases in which a rule came, oldest first."""


@lru_cache
def rules(release: str) -> Rules:
    """The accounting of a release that ``engine_version`` knows."""
    found = Rules()
    for since, changes in _CHANGES:
        if release_number(since) <= release_number(release):
            found = replace(found, **changes)  # type: ignore[arg-type]
    return replace(found, release=release)


NEWEST = rules(_CHANGES[-1][0])


def rules_of(settings: ServerSettings) -> Rules:
    """The accounting of the release that is asked for."""
    version = settings.engine_version.version
    return NEWEST if version is None else rules(version)
