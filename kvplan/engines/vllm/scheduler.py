"""Tokens and sequences of a step: vLLM's defaults by the size of a GPU, for ``vllm serve``.

vLLM 0.33.0 engine/arg_utils.py:2940 (get_batch_defaults) and :3151, config/vllm.py:588.
"""

from __future__ import annotations

import json

from kvplan.engines.settings import ServerSettings
from kvplan.engines.vllm.versions import Rules, rules_of
from kvplan.gpu import Gpu
from kvplan.parallel import Layout
from kvplan.spec import ModelSpec
from kvplan.units import GIB

_MIDDLE_BYTES = 70 * GIB
_LARGE, _MIDDLE, _SMALL = (16_384, 1_024), (8_192, 1_024), (2_048, 256)
"""max_num_batched_tokens and max_num_seqs."""
_GB10 = "12.1"

_FRAMES = 32
_FRAME_TOKENS = 70 + 2 + 6
_WHOLE_VIDEOS = frozenset(
    {"Gemma4ForConditionalGeneration", "Gemma4UnifiedForConditionalGeneration"}
)
"""A step takes one of their videos whole (models/gemma4_mm.py:289), where the config has
use_bidirectional_attention "vision": the sizes without an audio tower do."""
_NO_SECOND_BATCH = frozenset({"suffix"})
"""Methods of the first model runner, whose scheduling is not asynchronous (config/vllm.py:1652)."""


def _defaults(gpu: Gpu, rules: Rules) -> tuple[int, int]:
    if rules.large_gpu_bytes is not None and gpu.memory_bytes >= rules.large_gpu_bytes:
        return _LARGE
    small = "a100" in gpu.name or (rules.small_gb10 and gpu.compute_capability == _GB10)
    return _MIDDLE if gpu.memory_bytes >= _MIDDLE_BYTES and not small else _SMALL


def max_num_batched_tokens(
    settings: ServerSettings, gpu: Gpu, context_tokens: int, spec: ModelSpec
) -> int:
    """Tokens of a step at the most: a default is no more than all sequences together.

    Models with an encoder take a prompt at once, and Gemma 4 a whole video.
    """
    if settings.max_num_batched_tokens is not None:
        return settings.max_num_batched_tokens
    tokens, sequences = _defaults(gpu, rules_of(settings))
    if any(kind.kind == "cross_attention" for kind, _, _ in spec.caches_as_written()):
        tokens = max(tokens, context_tokens)
    if spec.architecture in _WHOLE_VIDEOS and not any(row.part == "audio" for row in spec.weights):
        tokens = max(tokens, _video_tokens(settings))
    return min(tokens, (settings.max_num_seqs or sequences) * context_tokens)


def _video_tokens(settings: ServerSettings) -> int:
    """Tokens of the longest video that a request may have; how many it may have changes nothing."""
    limit = json.loads(settings.limit_mm_per_prompt or "{}").get("video")
    frames = limit.get("num_frames", _FRAMES) if isinstance(limit, dict) else _FRAMES
    return min(frames, _FRAMES) * _FRAME_TOKENS


def max_num_seqs(settings: ServerSettings, gpu: Gpu, context_tokens: int, spec: ModelSpec) -> int:
    """Sequences that run at once at the most: a default is no more than tokens of a step."""
    if settings.max_num_seqs is not None:
        return settings.max_num_seqs
    sequences = _defaults(gpu, rules_of(settings))[1]
    return min(sequences, max_num_batched_tokens(settings, gpu, context_tokens, spec))


def max_in_flight_tokens(
    settings: ServerSettings, gpu: Gpu, layout: Layout, context_tokens: int, spec: ModelSpec
) -> int:
    """Tokens that are scheduled and not yet settled: of one step more than pipeline stages.

    Scheduling is asynchronous by default, but for methods of drafting that it is not made for.
    Older releases count those of one step.
    """
    if not rules_of(settings).in_flight_batches:
        return max_num_batched_tokens(settings, gpu, context_tokens, spec)
    given = settings.speculative_config
    method = json.loads(given).get("method") if given else None
    batches = layout.pipeline + (method not in _NO_SECOND_BATCH)
    return batches * max_num_batched_tokens(settings, gpu, context_tokens, spec)
