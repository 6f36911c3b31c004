"""The multiplication: figures by hand, and what has to hold for any model."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvplan
from kvplan.errors import RefusedError, UsageError
from kvplan.multi_head import as_full_attention, multi_head_footprint
from kvplan.parallel import tensor_parallel_sizes
from kvplan.spec import ModelSpec
from tests.strategies import specs

contexts = st.integers(1, 2_000_000)
GIB = 2**30


@pytest.mark.parametrize(
    ("model", "tokens", "total_bytes"),
    [
        ("llama2-7b", 2_048, GIB),  # 2 x 32 heads x 128 x 32 layers x 2 B x 2,048
        ("llama3-70b", 131_072, 40 * GIB),
        ("deepseek-v3", 131_072, 9_210_691_584),  # 70,272 x 131,072
        ("mistral-7b", 131_072, 536_870_912),  # 4,096 tokens and no more
        ("mistral-7b", 1_000, 131_072_000),
        ("gemma3-27b", 131_072, 81_920 * 131_072 + 436_207_616),
        ("gemma3-27b", 512, (81_920 + 425_984) * 512),  # within the window all layers grow
        ("whisper-large-v3", 448, 163_840 * 448 + 245_760_000),
        ("mamba-2.8b", 1_000_000, 22_937_600),
        # DeepSeek-V4-Pro at 100,001: 30 x 25,000 x (584 + 132) + 31 x 781 x 584 and what is fixed
        ("deepseek-v4-pro", 100_001, 537_000_000 + 14_139_224 + 4_559_872 + 18_710_528),
    ],
)
def test_one_sequence(model: str, tokens: int, total_bytes: int) -> None:
    assert kvplan.footprint(kvplan.load(model), tokens).total_bytes == total_bytes


@pytest.mark.parametrize(
    ("model", "dtype", "bytes_per_token"),
    [
        ("llama3-70b", "fp8", 163_840),
        ("llama3-70b", "mxfp8", 168_960),
        ("llama3-70b", "int8_per_token_head", 168_960),
        ("llama3-70b", "int4_per_token_head", 87_040),
        ("llama3-70b", "nvfp4", 92_160),
        ("llama3-70b", "q8_0", 174_080),
        ("llama3-70b", "q5_0", 112_640),
        ("llama3-70b", "q4_0", 92_160),
        ("deepseek-v3", "fp8", 35_136),
        ("deepseek-v3", "nvfp4", 19_764),
        ("deepseek-v3", "q8_0", 37_332),
        ("deepseek-v3.2", "bf16", 78_324),  # 61 x (1,152 + 132)
        ("deepseek-v3.2", "fp8", 43_188),  # 61 x (576 + 132)
        ("deepseek-v3.2", "fp8_ds_mla", 48_068),  # 61 x (656 + 132)
        ("deepseek-v3.2", "nvfp4_ds_mla", 29_524),  # 61 x (352 + 132)
        ("glm-5", "fp8_ds_mla", 61_464),
        ("glm-5.2", "fp8_ds_mla", 53_940),  # 78 x 656 + 21 x 132
        ("deepseek-v4-pro", "auto", Fraction("5511.4375")),
        ("deepseek-v4-pro", "bf16", 7_928 + 990),
        ("deepseek-v4-flash", "auto", Fraction("3850.25")),
        ("minimax-m3", "fp8", 76_032),  # vLLM 0.33.0: the index key stays bf16
    ],
)
def test_growth_in_other_formats(model: str, dtype: str, bytes_per_token: int | Fraction) -> None:
    """Figures of engines.md's cross-engine table and of vLLM's own runs."""
    result = kvplan.footprint(kvplan.load(model), 131_072, kv_cache_dtype=dtype)
    assert result.bytes_per_token == bytes_per_token


@pytest.mark.parametrize(
    ("model", "gpus", "bytes_per_token"),
    [
        # vLLM 0.33.0's own answers for one rank of eight
        ("llama3.1-70b", 8, 40_960),
        ("llama3.1-70b", 16, 40_960),  # 8 KV heads are replicated
        ("qwen3-235b-a22b", 8, 48_128),
        ("deepseek-v3", 8, 70_272),  # a latent is whole on every rank
        ("deepseek-v3.2", 8, 78_324),
        ("minimax-m3", 8, 45_312),  # 4 KV heads replicated, index keys whole
        ("qwen3-next-80b-a3b", 8, 12_288),
        ("mimo-v2-flash", 8, 5_760),
    ],
)
def test_growth_on_one_of_several_gpus(model: str, gpus: int, bytes_per_token: int) -> None:
    result = kvplan.footprint(kvplan.load(model), 131_072, tensor_parallel=gpus)
    assert result.bytes_per_token == bytes_per_token


def test_recurrent_state_is_divided_and_untouched_by_the_kv_dtype() -> None:
    """Qwen3-Next: 36 x (24,576 x 2 B + 524,288 x 4 B), an eighth of it on each of eight GPUs."""
    model = kvplan.load("qwen3-next-80b-a3b")
    assert kvplan.footprint(model, 1, kv_cache_dtype="fp8").fixed_bytes_per_sequence == 77_266_944
    assert kvplan.footprint(model, 1, tensor_parallel=8).fixed_bytes_per_sequence == 9_658_368


def test_draft_layers_count_only_where_asked_for() -> None:
    model = kvplan.load("deepseek-v3")
    assert kvplan.footprint(model, 1, draft=True).bytes_per_token == 62 * 1_152
    assert kvplan.footprint(model, 1).bytes_per_token == 61 * 1_152


@pytest.mark.parametrize(
    ("tokens", "total_bytes", "per_token", "fixed", "attention"),
    [
        # 32 layers x 2 x 32 x 96 x 2 B a token
        (131_072, 393_216 * 131_072, 393_216, 0, ("MHA",)),
        (200_000, 393_216 * 200_000, 393_216, 0, ("MHA",)),
        (262_144, 393_216 * 262_144, 393_216, 0, ("MHA",)),
        (262_145, 393_216 * 262_144, 0, 103_079_215_104, ("SWA",)),
        (1_048_576, 103_079_215_104, 0, 103_079_215_104, ("SWA",)),
    ],
)
def test_a_window_beyond_the_native_context_bounds_what_is_beyond_it(
    tokens: int, total_bytes: int, per_token: int, fixed: int, attention: tuple[str, ...]
) -> None:
    """Phi-3-mini-128k: a window of 262,144 over 131,072, full attention as far as that goes."""
    spec = kvplan.load("phi-3-mini-128k")
    result = kvplan.footprint(spec, tokens)
    assert result.total_bytes == total_bytes
    assert result.bytes_per_token == per_token
    assert result.fixed_bytes_per_sequence == fixed
    assert spec.attention_at(tokens) == attention
    native = kvplan.footprint(spec, 1)
    assert native.bytes_per_token == 393_216
    assert native.bytes_per_sequence_at(tokens) == total_bytes


def test_layers_that_share_a_cache_add_nothing() -> None:
    """Gemma-3n E4B: 4 full and 16 sliding layers of 35 keep a cache."""
    model = kvplan.load("gemma3n")
    assert (model.total_layers, model.cached_layers) == (35, 20)
    assert kvplan.footprint(model, 32_768).bytes_per_token == 8_192


def test_a_layer_with_two_caches_counts_both() -> None:
    model = kvplan.load("longcat-flash")
    assert (model.total_layers, model.cached_layers) == (28, 28)
    line = kvplan.footprint(model, 1).lines[0]
    assert (line.layers, line.copies) == (28, 56)
    assert line.bytes_per_token == 64_512


@pytest.mark.parametrize(
    ("model", "mha_bytes_per_token"),
    [
        ("deepseek-v3", 4_997_120),
        ("deepseek-v2", 4_915_200),
        ("kimi-k2", 2_498_560),
        ("minicpm3-4b", 793_600),
        ("longcat-flash", 2_293_760),
        ("llama3-70b", 2_621_440),
        ("llama2-7b", 524_288),
        ("kimi-linear", 143_360),
    ],
)
def test_multi_head_attention_would_keep(model: str, mha_bytes_per_token: int) -> None:
    spec = kvplan.load(model)
    multi_head = multi_head_footprint(spec, kvplan.footprint(spec, 1_000))
    assert multi_head is not None
    assert multi_head.bytes_per_token == mha_bytes_per_token


def test_a_model_without_attention_has_no_multi_head_form() -> None:
    assert as_full_attention(kvplan.load("mamba2-2.7b")) is None


@pytest.mark.parametrize(
    ("model", "dtype"),
    [("llama3-70b", "fp8_ds_mla"), ("minicpm3-4b", "fp8_ds_mla"), ("stablelm-3b", "q8_0")],
)
def test_a_layout_that_does_not_exist_for_a_model_is_refused(model: str, dtype: str) -> None:
    with pytest.raises(RefusedError, match=model):
        kvplan.footprint(kvplan.load(model), 1, kv_cache_dtype=dtype)


def test_heads_that_do_not_divide_are_refused() -> None:
    with pytest.raises(UsageError, match="cannot be divided over tensor_parallel_size 3"):
        kvplan.footprint(kvplan.load("llama3-70b"), 1, tensor_parallel=3)


@pytest.mark.parametrize(("tokens", "sequences"), [(0, 1), (1, 0), (-1, 1)])
def test_nothing_to_size_is_refused(tokens: int, sequences: int) -> None:
    with pytest.raises(UsageError, match="one or more"):
        kvplan.footprint(kvplan.load("llama3-70b"), tokens, sequences)


@pytest.mark.parametrize("tokens", [128.5, 1.0, True, None])
def test_only_whole_numbers_are_sizes(tokens: Any) -> None:
    with pytest.raises(UsageError, match="has to be a whole number"):
        kvplan.footprint(kvplan.load("llama3-8b"), tokens)


@given(specs, contexts, contexts)
def test_more_context_never_costs_less(spec: ModelSpec, one: int, other: int) -> None:
    shorter, longer = sorted((one, other))
    assert kvplan.footprint(spec, shorter).total_bytes <= kvplan.footprint(spec, longer).total_bytes


@given(specs, contexts, contexts)
def test_a_context_costs_the_same_from_any_other(spec: ModelSpec, one: int, other: int) -> None:
    asked = kvplan.footprint(spec, other).bytes_per_sequence_at(one)
    assert asked == kvplan.footprint(spec, one).bytes_per_sequence


@given(specs, contexts)
def test_growth_and_fixed_bytes_bound_a_sequence(spec: ModelSpec, tokens: int) -> None:
    result = kvplan.footprint(spec, tokens)
    most = result.bytes_per_token * tokens + result.fixed_bytes_per_sequence
    assert result.bytes_per_sequence <= most + result.cross_attention_bytes_per_sequence


@given(specs, contexts, st.integers(1, 1_000))
def test_sequences_multiply(spec: ModelSpec, tokens: int, sequences: int) -> None:
    one = kvplan.footprint(spec, tokens).total_bytes
    assert kvplan.footprint(spec, tokens, sequences).total_bytes == sequences * one


@given(specs, contexts, st.integers(2, 5))
def test_layers_scale_linearly(spec: ModelSpec, tokens: int, times: int) -> None:
    deeper = replace(
        spec,
        groups=tuple(replace(group, layers=(group.layers or 0) * times) for group in spec.groups),
    )
    once = kvplan.footprint(spec, tokens).total_bytes
    assert kvplan.footprint(deeper, tokens).total_bytes == times * once


@given(specs, contexts)
def test_splitting_never_loses_bytes(spec: ModelSpec, tokens: int) -> None:
    whole = kvplan.footprint(spec, tokens).total_bytes
    for size in tensor_parallel_sizes(spec):
        share = kvplan.footprint(spec, tokens, tensor_parallel=size).total_bytes
        assert share <= whole <= size * share


@given(specs, contexts, st.sampled_from(["fp8", "nvfp4", "mxfp8"]))
def test_a_smaller_format_never_takes_more(spec: ModelSpec, tokens: int, dtype: str) -> None:
    smaller = kvplan.footprint(spec, tokens, kv_cache_dtype=dtype).total_bytes
    assert smaller <= kvplan.footprint(spec, tokens).total_bytes


@pytest.mark.parametrize(
    ("model", "dtype", "formula"),
    [
        (
            "llama3-70b",
            "auto",
            "80 layers × (key 8×128·2 B + value 8×128·2 B) = 327,680 B/token",
        ),
        (
            "deepseek-v3",
            "fp8_ds_mla",
            "61 layers × (latent 512·1 B + 4·4 B scale + rope key 64·2 B) = 40,016 B/token",
        ),
        ("gemma3n", "auto", "reads another layer's cache: 0 B"),
    ],
)
def test_the_working_is_written_out(model: str, dtype: str, formula: str) -> None:
    lines = kvplan.footprint(model, 1, kv_cache_dtype=dtype).lines
    assert formula in [line.formula for line in lines]
