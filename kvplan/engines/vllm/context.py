"""The context that vLLM serves a model with, and the longest that it takes.

vLLM 0.33.0 config/model.py:2546, _get_and_verify_max_len.
"""

from __future__ import annotations

from kvplan.errors import RefusedError
from kvplan.spec import ModelSpec

_DEFAULT_TOKENS = 2048
"""Where no key of the config bounds it (config/model.py:2594)."""


def longest_context(spec: ModelSpec) -> int | None:
    """What the config derives; None where nothing in it bounds a context that is asked for.

    The factor of YaRN does not count, for max_position_embeddings is taken as stretched already.
    """
    return spec.max_position_embeddings or spec.native_context_tokens


def served_context(spec: ModelSpec) -> int:
    """max_model_len where none is given: of LongRoPE the length before it."""
    longest = longest_context(spec) or _DEFAULT_TOKENS
    return spec.original_max_position_embeddings or longest


def check_context(spec: ModelSpec, context_tokens: int) -> None:
    """Raises RefusedError, in vLLM's words, for a longer max_model_len than the config derives."""
    longest = longest_context(spec)
    if longest is None or context_tokens <= longest:
        return
    raise RefusedError(
        f"{spec.name}: vLLM 0.33.0 refuses it: User-specified max_model_len ({context_tokens}) is "
        f"greater than the derived max_model_len ({longest})",
        "To allow overriding this maximum, set the env var VLLM_ALLOW_LONG_MAX_MODEL_LEN=1",
    )
