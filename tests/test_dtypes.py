"""Dtypes beside keys and values: states, convolutions, index keys; by engine and by option."""

from __future__ import annotations

from typing import Any

import pytest

import kvplan
from tests.command_line import answer
from tests.command_line import kvplan as run


def per_sequence(model: str, **options: Any) -> int:
    return kvplan.footprint(model, 1, **options).fixed_bytes_per_sequence


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # 48 layers: (2 x 16 + 48) x 128 x 3 of convolution, 48 x 128 x 128 of state
        ({}, 48 * (30_720 * 2 + 786_432 * 4)),
        ({"mamba_cache_dtype": "float32"}, 48 * (30_720 * 4 + 786_432 * 4)),
        ({"mamba_ssm_cache_dtype": "bfloat16"}, 48 * (30_720 * 2 + 786_432 * 2)),
        # its config names float32 for the state: the convolution's option does not move it
        ({"mamba_cache_dtype": "float16"}, 48 * (30_720 * 2 + 786_432 * 4)),
        # llama.cpp keeps both in f32: ggml-org/llama.cpp#23792, R 16.88 and S 432.00 MiB for 3
        ({"kv_cache_dtype": "q8_0"}, 156_893_184),
        ({"kv_cache_dtype": "f16"}, 156_893_184),
        ({"kv_cache_dtype": "q8_0", "mamba_cache_dtype": "bfloat16"}, 153_944_064),
    ],
)
def test_states_of_qwen3_5(options: dict[str, Any], expected: int) -> None:
    assert per_sequence("qwen3.5-27b", **options) == expected


def test_a_state_whose_dtype_no_config_names_follows_the_convolutions() -> None:
    """VLLM 0.33.0 mamba_utils.py, _mamba_state_dtype: Qwen3-Next, 36 layers."""
    conv, state = 36 * 24_576, 36 * 524_288
    assert per_sequence("qwen3-next-80b-a3b") == conv * 2 + state * 4
    options = {"mamba_cache_dtype": "bfloat16"}
    assert per_sequence("qwen3-next-80b-a3b", **options) == conv * 2 + state * 2
    options = {"mamba_cache_dtype": "bfloat16", "mamba_ssm_cache_dtype": "float32"}
    assert per_sequence("qwen3-next-80b-a3b", **options) == conv * 2 + state * 4


def test_delta_attention_has_fp32_or_bf16_states() -> None:
    """kda_state_dtype: fp32 unless asked for, whatever the convolution's dtype; no fp16."""
    conv, state = 69 * 3 * 96 * 128 * 3, 69 * 96 * 128 * 128
    assert per_sequence("kimi-k3", mamba_cache_dtype="float16") == conv * 2 + state * 4
    assert per_sequence("kimi-k3", mamba_ssm_cache_dtype="bfloat16") == conv * 2 + state * 2
    with pytest.raises(kvplan.UsageError, match="KDA layers is kept in fp32 or bf16"):
        per_sequence("kimi-k3", mamba_ssm_cache_dtype="float16")


def test_linear_attention_has_no_option_of_its_own() -> None:
    """linear_attention_state_dtype: MiniMax-Text-01's 70 states of 64 x 128 x 128."""
    state = 70 * 64 * 128 * 128
    assert per_sequence("minimax-text-01", mamba_ssm_cache_dtype="bfloat16") == state * 4
    assert per_sequence("minimax-text-01", mamba_cache_dtype="bfloat16") == state * 2


@pytest.mark.parametrize(
    ("options", "index_bytes"),
    [
        ({}, 21 * 132),
        # llama.cpp's own types: ggml-org/llama.cpp#26382 (178.50 MiB for 65,536 cells)
        ({"kv_cache_dtype": "q8_0"}, 21 * 136),
        # 672 MiB for 131,072 cells (#26474); vLLM refuses fp16 beside bf16 weights
        ({"kv_cache_dtype": "f16"}, 21 * 256),
        ({"kv_cache_dtype": "fp16"}, 21 * 256),
        ({"kv_cache_dtype": "fp16", "index_cache_dtype": "fp8"}, 21 * 132),
        ({"kv_cache_dtype": "fp8_ds_mla"}, 21 * 132),
        # vllm-project/vllm#48558: 68 B
        ({"index_cache_dtype": "fp4"}, 21 * 68),
        ({"index_cache_dtype": "mxfp4", "kv_cache_dtype": "fp8_ds_mla"}, 21 * 68),
        ({"index_cache_dtype": "q8_0"}, 21 * 136),
    ],
)
def test_index_keys_of_glm_5_2(options: dict[str, Any], index_bytes: int) -> None:
    cache = kvplan.footprint("glm-5.2", 1, **options)
    keys = [line for line in cache.lines if line.kind.kind == "index_keys"]
    assert sum(line.bytes_per_token for line in keys) == index_bytes


@pytest.mark.parametrize(("dtype", "total"), [("q8_0", 50_592), ("fp16", 95_232)])
def test_the_whole_of_glm_5_2_as_llama_cpp_keeps_it(dtype: str, total: int) -> None:
    document = answer("show", "glm-5.2", "--kv-cache-dtype", dtype)
    assert document["bytes_per_token"] == total
    assert any("llama.cpp" in warning for warning in document["warnings"])


def test_a_dtype_that_the_indexer_is_never_kept_in_is_refused() -> None:
    with pytest.raises(kvplan.RefusedError, match="stored in fp8 or mxfp4, not in bf16"):
        kvplan.footprint("glm-5.2", 1, index_cache_dtype="bf16")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--mamba-cache-dtype", "float64"), "--mamba-cache-dtype has to be auto, float32"),
        (("--mamba-ssm-cache-dtype", "fp8"), "--mamba-ssm-cache-dtype has to be auto"),
        (("--index-cache-dtype", "mxfp5"), "did you mean mxfp4"),
        (("--index-cache-dtype", "fp8_ds_mla"), "no dtype of index keys"),
    ],
)
def test_wrong_words(arguments: tuple[str, ...], said: str) -> None:
    result = run("plan", "glm-5.2", "--gpu", "b300", *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert said in result.stderr


def test_options_that_change_nothing_are_named() -> None:
    document = answer("plan", "llama3-8b", "--gpu", "h100", "--index-cache-dtype", "fp4")
    assert any("index_cache_dtype changes nothing" in text for text in document["warnings"])
    document = answer("plan", "llama3-8b", "--gpu", "h100", "--mamba-cache-dtype", "float32")
    assert any("no recurrent layers" in text for text in document["warnings"])
