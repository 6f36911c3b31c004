"""How a server is started, as far as it decides memory: the options of engines, in vLLM's names."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """What an engine reads of a question; None is the engine's own default."""

    engine: str = "none"
    """Whose accounting a plan follows: ``none`` is the arithmetic itself, ``vllm`` the newest
    version known, ``vllm@0.12`` that one."""
    kv_cache_dtype: str = "auto"
    max_num_seqs: int | None = None
    """vLLM's cap of concurrency, a data-parallel rank; ``sequences`` is the load of all ranks."""
    max_num_batched_tokens: int | None = None
    block_size: int | None = None
    """Tokens of a page, of attention's own cache."""
    attention_backend: str | None = None
    enable_prefix_caching: bool = True
    disable_hybrid_kv_cache_manager: bool = False
    num_speculative_tokens: int | None = None
    num_gpu_blocks_override: int | None = None
    enforce_eager: bool = False
    limit_mm_per_prompt: str | None = None
    """The most images, videos and audios of a request, as vLLM takes it: ``{"image": 0}``."""
