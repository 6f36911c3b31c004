"""The tensors of each layout: their shapes, and that they hold what the calculator says."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kvplan
from kvplan.errors import UsageError
from kvplan.measure.layouts import cache_footprint, cache_tensors, planned_bytes, pool_limits
from kvplan.measure.question import CacheLayout, CacheQuestion
from kvplan.spec import ModelSpec
from tests.measure.samples import question
from tests.strategies import specs


@pytest.mark.parametrize(
    "layout", [CacheLayout.ARITHMETIC, CacheLayout.WHOLE, CacheLayout.SEQUENCES]
)
@settings(max_examples=40)
@given(spec=specs, tokens=st.integers(1, 3_000), sequences=st.integers(1, 3))
def test_tensors_hold_the_footprint(
    layout: CacheLayout, spec: ModelSpec, tokens: int, sequences: int
) -> None:
    asked = CacheQuestion(spec, tokens, sequences)
    total = cache_footprint(asked).total_bytes
    if total:
        assert planned_bytes(cache_tensors(asked, layout)) == total


@pytest.mark.parametrize(
    ("layout", "tokens"),
    [
        (CacheLayout.ARITHMETIC, 100),
        (CacheLayout.WHOLE, 100),
        (CacheLayout.SEQUENCES, 100),
        (CacheLayout.VLLM, 112),  # seven pages of 16
        (CacheLayout.GROWN, 108),
    ],
)
@pytest.mark.parametrize(("model", "token"), [("llama3-70b", 327_680), ("deepseek-v3", 70_272)])
def test_bytes_of_a_layout(model: str, token: int, layout: CacheLayout, tokens: int) -> None:
    tensors = cache_tensors(question(model, 100, 2), layout)
    assert planned_bytes(tensors) == 2 * tokens * token


@pytest.mark.parametrize(
    ("layout", "shapes"),
    [
        (CacheLayout.ARITHMETIC, 160 * [(2, 8, 100, 128)]),
        (CacheLayout.WHOLE, [(65_536_000,)]),
        (CacheLayout.SEQUENCES, 320 * [(1, 8, 100, 128)]),
        (CacheLayout.VLLM, 80 * [(14, 16, 4_096)]),
        (CacheLayout.GROWN, 160 * [(2, 8, 108, 128)]),
    ],
)
def test_shapes_of_a_layout(layout: CacheLayout, shapes: list[tuple[int, ...]]) -> None:
    tensors = cache_tensors(question("llama3-70b", 100, 2), layout)
    assert [tensor.shape for tensor in tensors] == shapes


def test_a_latent_without_a_rotary_key_is_one_tensor() -> None:
    """34 states of convolution and matrix, 11 latents, 11 index keys for four tokens, 11 tails."""
    tensors = cache_tensors(question("glm-5.3-flash", 102), CacheLayout.ARITHMETIC)
    assert Counter(tensor.shape for tensor in tensors) == {
        (1, 64, 1, 1_152): 34,
        (1, 64, 1, 16_384): 34,
        (1, 1, 102, 512): 11,
        (1, 1, 25, 132): 11,
        (1, 1, 4, 256): 11,
    }
    assert planned_bytes(tensors) == 147_642_368 + 11 * (102 * 1_024 + 25 * 132)


def test_what_grows_starts_from_a_prompt() -> None:
    (key, *_) = cache_tensors(question("llama3-70b", 100), CacheLayout.GROWN)
    assert key.grows
    assert key.prompt().shape == (1, 8, 100, 128)
    window, *_ = cache_tensors(question("mamba-2.8b", 100), CacheLayout.GROWN)
    assert window.prompt() is window


def test_vllm_pages_are_whole() -> None:
    tensors = cache_tensors(question("llama3-70b", 100_001), CacheLayout.VLLM)
    assert len(tensors) == 80
    assert tensors[0].shape == (6_251, 16, 4_096)  # 100,001 tokens in pages of 16
    latents = cache_tensors(question("deepseek-v3", 100, 3, page_tokens=64), CacheLayout.VLLM)
    assert (len(latents), latents[0].shape) == (61, (6, 64, 1_152))


def test_tensor_parallel_ranks_keep_their_heads() -> None:
    heads, *_ = cache_tensors(question("llama3-70b", 64, tensor_parallel=8), CacheLayout.ARITHMETIC)
    assert heads.shape == (1, 1, 64, 128)
    latent, rope, *_ = cache_tensors(
        question("deepseek-v3", 64, tensor_parallel=8), CacheLayout.ARITHMETIC
    )
    assert (latent.shape, rope.shape) == ((1, 1, 64, 512), (1, 1, 64, 64))


@pytest.mark.parametrize(
    ("dtype", "torch_dtype", "row"),  # of 128 elements
    [
        ("bf16", "bfloat16", 256),
        ("fp16", "float16", 256),
        ("fp32", "float32", 512),
        ("fp8", "uint8", 128),
        ("q4_0", "uint8", 72),  # a block of 32 takes 18 bytes
        ("nvfp4", "uint8", 72),  # 64, and a byte of scale for each 16
    ],
)
def test_packed_rows_hold_what_their_format_says(dtype: str, torch_dtype: str, row: int) -> None:
    asked = question("llama3-70b", 50, kv_cache_dtype=dtype)
    tensors = cache_tensors(asked, CacheLayout.ARITHMETIC)
    assert {tensor.dtype for tensor in tensors} == {torch_dtype}
    assert {tensor.size_bytes for tensor in tensors} == {8 * 50 * row}


@pytest.mark.parametrize(
    ("model", "dtype", "blocks", "block_bytes"),
    [  # vLLM 0.33.0's own blocks of a request of the native context, and the null block
        ("gemma3-27b", "auto", 14_726, 1_310_720),
        ("deepseek-v3.2", "auto", 2_560, 5_012_736),
        ("gpt-oss-120b", "fp8", 9_225, 294_912),
        ("nemotron-h-56b", "auto", 20, 169_082_880),
    ],
)
def test_unlike_layers_share_the_pool_that_vllm_makes(
    model: str, dtype: str, blocks: int, block_bytes: int
) -> None:
    spec = kvplan.load(model)
    assert spec.native_context_tokens is not None
    asked = question(model, spec.native_context_tokens, kv_cache_dtype=dtype)
    (pool,) = cache_tensors(asked, CacheLayout.VLLM)
    assert pool.shape == (blocks + 1, block_bytes)


@pytest.mark.parametrize("layout", list(CacheLayout))
def test_a_model_without_caches_has_nothing_to_allocate(layout: CacheLayout) -> None:
    asked = question("llama2-7b")
    without = replace(asked.spec, groups=(replace(asked.spec.groups[0], caches=()),))
    with pytest.raises(UsageError, match="there is nothing to allocate"):
        cache_tensors(replace(asked, spec=without), layout)


def test_too_many_tensors_are_refused() -> None:
    with pytest.raises(UsageError, match="160,000 tensors are more than"):
        cache_tensors(question("llama3-70b", 16, 1_000), CacheLayout.SEQUENCES)


def test_a_pool_of_so_many_bytes_holds_what_vllm_says() -> None:
    """gpt-oss-120b, 40 GiB: 72,817 blocks of 589,824 B, 9,225 of them a request of 131,072.

    vLLM 0.33.0's own figures; whole requests beside the null block are seven.
    """
    asked = question("gpt-oss-120b", 131_072)
    assert pool_limits(asked, CacheLayout.ARITHMETIC, 40 << 30) is None
    assert pool_limits(question("llama3-70b"), CacheLayout.VLLM, 40 << 30) is None
    limits = pool_limits(asked, CacheLayout.VLLM, 40 << 30)
    assert limits is not None
    longest, sequences = limits
    assert sequences == 72_816 // 9_225
    # Full layers take a block for 16 tokens, windows 1,033 blocks however long the request is.
    assert longest == (72_816 - 1_033) * 16
