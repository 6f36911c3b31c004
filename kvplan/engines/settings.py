"""How a server is started, as far as it decides memory: the options of engines, in vLLM's names."""

from __future__ import annotations

from dataclasses import dataclass

from kvplan.engines.versions import NONE, EngineVersion, engine_version
from kvplan.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """What an engine reads of a question; None is the engine's own default."""

    engine: str = NONE
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
    speculative_config: str | None = None
    """As it was given, one line of JSON; what it says stands in the other fields."""

    @property
    def engine_version(self) -> EngineVersion:
        """The engine's version whose rules are asked for."""
        return engine_version(self.engine)


_OF_ENGINES = {
    "speculative_config": "draft or draft_model count the cache of a drafter",
    "max_num_batched_tokens": None,
    "block_size": None,
    "attention_backend": None,
    "enable_prefix_caching": None,
    "disable_hybrid_kv_cache_manager": None,
    "num_speculative_tokens": "draft or draft_model count the cache of a drafter",
    "num_gpu_blocks_override": None,
    "enforce_eager": None,
    "limit_mm_per_prompt": None,
}
"""Settings that change nothing in plain arithmetic, with what does instead."""


def options_of(version: EngineVersion) -> tuple[str, ...]:
    """Settings that this engine reads and plain arithmetic does not."""
    return () if version.name == NONE else tuple(_OF_ENGINES)


def check_settings(settings: ServerSettings) -> None:
    """Raises KvplanError for an engine that is not known, and for what only one would read."""
    if settings.engine_version.name != NONE:
        return
    for name, instead in _OF_ENGINES.items():
        if getattr(settings, name) != getattr(ServerSettings, name):
            raise UsageError(
                f"{name} needs engine vllm: plain arithmetic (engine none) does not read it",
                instead,
            )
