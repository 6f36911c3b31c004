"""Tokens and sequences of a step: vLLM's defaults by the size of a GPU, for ``vllm serve``.

vLLM 0.33.0 engine/arg_utils.py:2940 (get_batch_defaults) and :3151, config/vllm.py:588.
"""

from __future__ import annotations

from kvplan.engines.settings import ServerSettings
from kvplan.gpu import Gpu
from kvplan.parallel import Layout
from kvplan.units import GIB

_LARGE_BYTES, _MIDDLE_BYTES = 160 * GIB, 70 * GIB
_LARGE, _MIDDLE, _SMALL = (16_384, 1_024), (8_192, 1_024), (2_048, 256)
"""max_num_batched_tokens and max_num_seqs."""
_GB10 = "12.1"


def _defaults(gpu: Gpu) -> tuple[int, int]:
    if gpu.memory_bytes >= _LARGE_BYTES:
        return _LARGE
    small = "a100" in gpu.name or gpu.compute_capability == _GB10
    return _MIDDLE if gpu.memory_bytes >= _MIDDLE_BYTES and not small else _SMALL


def max_num_batched_tokens(settings: ServerSettings, gpu: Gpu, context_tokens: int) -> int:
    """Tokens of a step at the most: a default is no more than all sequences together."""
    if settings.max_num_batched_tokens is not None:
        return settings.max_num_batched_tokens
    tokens, sequences = _defaults(gpu)
    return min(tokens, (settings.max_num_seqs or sequences) * context_tokens)


def max_num_seqs(settings: ServerSettings, gpu: Gpu, context_tokens: int) -> int:
    """Sequences that run at once at the most: a default is no more than tokens of a step."""
    if settings.max_num_seqs is not None:
        return settings.max_num_seqs
    return min(_defaults(gpu)[1], max_num_batched_tokens(settings, gpu, context_tokens))


def max_in_flight_tokens(
    settings: ServerSettings, gpu: Gpu, layout: Layout, context_tokens: int
) -> int:
    """Tokens that are scheduled and not yet settled: of one step more than pipeline stages.

    Scheduling is asynchronous by default.
    """
    return (layout.pipeline + 1) * max_num_batched_tokens(settings, gpu, context_tokens)
