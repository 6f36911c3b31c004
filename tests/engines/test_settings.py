"""A server's options: what only an engine reads, and the values that vLLM takes."""

from __future__ import annotations

from typing import Any

import pytest

from kvplan.engines.json_options import read_mm_limits
from kvplan.errors import UsageError
from kvplan.question import ask

OF_ENGINES: list[dict[str, Any]] = [
    {"max_num_batched_tokens": 2048},
    {"block_size": 32},
    {"attention_backend": "FLASHMLA"},
    {"enable_prefix_caching": False},
    {"disable_hybrid_kv_cache_manager": True},
    {"num_speculative_tokens": 1},
    {"num_gpu_blocks_override": 100},
    {"enforce_eager": True},
    {"limit_mm_per_prompt": {"image": 0}},
]


@pytest.mark.parametrize("options", OF_ENGINES, ids=lambda options: next(iter(options)))
def test_what_arithmetic_does_not_read_needs_an_engine(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(UsageError, match=f"{name} needs engine vllm"):
        ask(["llama3-8b"], **options)
    ask(["llama3-8b"], engine="vllm", **options)


def test_a_cap_and_a_default_that_is_written_out_are_no_reason_to_ask_for_one() -> None:
    ask(["llama3-8b"], max_num_seqs=8, enable_prefix_caching=True, attention_backend="auto")


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ('{"image": 4}', '{"image": 4}'),
        ({"video": {"count": 1, "num_frames": 32}}, '{"video": {"count": 1, "num_frames": 32}}'),
        ("{}", "{}"),
    ],
)
def test_limits_of_a_request(given: Any, text: str) -> None:
    """The three forms of vLLM 0.33.0's config/multimodal.py."""
    assert read_mm_limits(given) == text


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ('{"images": 4}', "no 'images'"),
        ('{"image": -1}', "count of image has to be a whole number, 0 to"),
        ('{"image": true}', "count of image"),
        ('{"image": "4"}', "count of image"),
        ('{"image": {"num_frames": 4}}', "image has no 'num_frames'"),
        ('{"image": {"width": 0}}', "width of image has to be a whole number, 1 to"),
        ("image=4", "not JSON"),
        ("7", "object of JSON"),
    ],
)
def test_a_limit_that_vllm_would_not_take(given: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read_mm_limits(given)


def test_a_backend_is_named_in_any_case() -> None:
    assert ask(["llama3-8b"], engine="vllm", attention_backend="flashinfer").attention_backend == (
        "FLASHINFER"
    )
    with pytest.raises(UsageError, match=r"attention_backend: 'flash_atn'.*FLASH_ATTN"):
        ask(["llama3-8b"], engine="vllm", attention_backend="flash_atn")


@pytest.mark.parametrize("context", ["auto", "AUTO", "-1", -1, None])
def test_a_context_may_be_the_longest_that_fits(context: Any) -> None:
    assert ask(["llama3-8b"], context_tokens=context).context_tokens is None
