"""Tokens and sequences of a step, by hand from vLLM 0.33.0 engine/arg_utils.py:2940 and :3151."""

from __future__ import annotations

import pytest

import kvplan
from kvplan.engines.settings import ServerSettings
from kvplan.engines.vllm.scheduler import (
    max_in_flight_tokens,
    max_num_batched_tokens,
    max_num_seqs,
)
from kvplan.parallel import Layout
from kvplan.registry.names import load_gpu

LLAMA = kvplan.load("llama3.1-8b")
VLLM = ServerSettings(engine="vllm")


@pytest.mark.parametrize(
    ("gpu", "tokens", "sequences"),
    [
        ("h100", 8_192, 1_024),
        ("b200", 16_384, 1_024),
        ("a100-80gb", 2_048, 256),
        ("rtx-4090", 2_048, 256),
        ("gb10", 2_048, 256),
        ("mi300x", 16_384, 1_024),
    ],
)
def test_defaults_go_by_the_size_of_a_gpu(gpu: str, tokens: int, sequences: int) -> None:
    card = load_gpu(gpu)
    assert max_num_batched_tokens(VLLM, card, 131_072, LLAMA) == tokens
    assert max_num_seqs(VLLM, card, 131_072, LLAMA) == sequences


def test_few_tokens_of_few_sequences() -> None:
    two = ServerSettings(engine="vllm", max_num_seqs=2)
    card = load_gpu("h100")
    assert max_num_batched_tokens(two, card, 1_024, LLAMA) == 2_048
    short = ServerSettings(engine="vllm", max_num_batched_tokens=512)
    assert max_num_seqs(short, card, 1_024, LLAMA) == 512


def test_tokens_in_flight() -> None:
    card = load_gpu("h100")
    assert max_in_flight_tokens(VLLM, card, Layout(), 131_072, LLAMA) == 16_384
    assert max_in_flight_tokens(VLLM, card, Layout(pipeline=4), 131_072, LLAMA) == 40_960
    suffix = ServerSettings(engine="vllm", speculative_config='{"method": "suffix"}')
    assert max_in_flight_tokens(suffix, card, Layout(), 131_072, LLAMA) == 8_192


def test_a_video_of_gemma_4_is_not_cut() -> None:
    """32 frames of 70 + 2 + 6 tokens, where the default is 2,048 (models/gemma4_mm.py:289)."""
    card, gemma = load_gpu("rtx-4090"), kvplan.load("gemma4-26b-a4b")
    assert max_num_batched_tokens(VLLM, card, 131_072, gemma) == 2_496
    frames = ServerSettings(
        engine="vllm", limit_mm_per_prompt='{"video": {"count": 1, "num_frames": 30}}'
    )
    assert max_num_batched_tokens(frames, card, 131_072, gemma) == 2_340
    assert max_num_batched_tokens(VLLM, card, 131_072, kvplan.load("gemma4-e4b")) == 2_048


def test_a_prompt_beside_an_encoder_is_not_cut() -> None:
    card, whisper = load_gpu("rtx-4090"), kvplan.load("whisper-large-v3")
    assert max_num_batched_tokens(VLLM, card, 4_096, whisper) == 4_096
    assert max_num_batched_tokens(VLLM, card, 448, whisper) == 2_048
