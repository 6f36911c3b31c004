"""Weights as they are served: figures by hand and of published files.

Llama-3.1-8B has 6,979,321,856 weights in its linear layers, 525,336,576 each in embedding and
head, and 266,240 in norms (meta-llama/Llama-3.1-8B config.json).
"""

from __future__ import annotations

from dataclasses import replace

import pytest

import kvplan
from kvplan.errors import RefusedError, UsageError
from kvplan.planner.quantizers import QUANTIZERS
from kvplan.planner.served import serve
from kvplan.spec import ModelSpec
from kvplan.stored import StoredWeights
from kvplan.weights import active_experts

LLAMA = kvplan.load("llama3.1-8b")
LINEAR, VOCABULARY, NORMS = 6_979_321_856, 525_336_576, 266_240
KEPT_BYTES = 2 * (2 * VOCABULARY + NORMS)


def served_bytes(
    model: str | ModelSpec, dtype: str = "auto", quantization: str | None = None
) -> int | None:
    spec = kvplan.load(model) if isinstance(model, str) else model
    return serve(spec, dtype, quantization).spec.weights_bytes


def rows(spec: ModelSpec) -> set[tuple[str | None, str, str | None]]:
    return {(row.part, row.dtype, row.what) for row in spec.weights}


def test_a_16_bit_checkpoint_is_served_as_it_is() -> None:
    served = serve(LLAMA)
    assert served.spec == LLAMA
    assert (served.notes, served.basis) == ((), "config")


def test_a_checkpoint_in_fp32_is_served_in_16_bit() -> None:
    """gemma-2-9b: 9,241,705,984 parameters in fp32 are 36.97 GB on disk and 18.48 GB served."""
    served = serve(kvplan.load("gemma2-9b"))
    assert served.spec.weights_bytes == 9_241_705_984 * 2
    assert served.spec.dtype == "bf16"
    assert served.basis == "assumed"
    assert "stored in fp32" in served.notes[0]


def test_gemma2_9b_fits_one_l4_as_served() -> None:
    """18.5 GB of weights and 8,192 tokens at 344,064 B of bf16 cache in 24 GB."""

    def fits(dtype: str) -> bool:
        return kvplan.plan(
            "gemma2-9b", gpu="l4", gpus=1, context_tokens="8k", overhead="1GiB", dtype=dtype
        ).fits

    assert not fits("float32")
    assert fits("auto")


@pytest.mark.parametrize(
    ("name", "dtype", "bits"),
    [
        ("half", "fp16", 16),
        ("Float16", "fp16", 16),
        ("bfloat16", "bf16", 16),
        ("float", "fp32", 32),
        ("float32", "fp32", 32),
    ],
)
def test_a_dtype_by_the_names_of_vllm(name: str, dtype: str, bits: int) -> None:
    served = serve(LLAMA, name)
    assert served.spec.dtype == dtype
    assert served.spec.weights_bytes == 8_030_261_248 * bits // 8
    assert served.basis == "config"


def test_the_cache_follows_the_dtype_served() -> None:
    """Llama-3.1-8B: 32 layers x 8 heads x 128 x 2 are 65,536 elements a token."""
    spec = serve(LLAMA, "float32").spec
    assert kvplan.footprint(spec, context_tokens=1).bytes_per_token == 65_536 * 4


def test_below_compute_capability_8_0_there_is_no_bf16() -> None:
    """VLLM 0.33.0 platforms/cuda.py: Turing has float16 and float32."""
    served = serve(LLAMA, compute_capability="7.5")
    assert served.spec.dtype == "fp16"
    assert served.basis == "assumed"
    assert serve(replace(LLAMA, dtype="fp32"), compute_capability="7.0").spec.dtype == "fp16"
    assert serve(replace(LLAMA, dtype="fp32"), compute_capability="10.0").spec.dtype == "bf16"
    assert serve(replace(LLAMA, dtype="fp16"), compute_capability="7.5").basis == "config"
    with pytest.raises(UsageError, match=r"8\.0 or more"):
        serve(LLAMA, "bfloat16", compute_capability="7.5")
    with pytest.raises(UsageError, match="gfx942"):
        serve(LLAMA, compute_capability="gfx942")


def test_what_a_16_bit_checkpoint_keeps_in_fp32_stays() -> None:
    """Qwen3.5-0.8B: 2,592 of A_log and norms; MiniMax-M2: routers and their biases."""
    qwen = kvplan.load("qwen3.5-0.8b")
    assert served_bytes(qwen, "half") == qwen.weights_bytes
    assert ("recurrent", "fp32", None) in rows(serve(qwen, "half").spec)
    minimax = kvplan.load("minimax-m2")
    kept = {("router", "fp32", None), ("router", "fp32", "buffers")}
    assert kept <= rows(serve(minimax, "half").spec)
    assert served_bytes(minimax, "half") == minimax.weights_bytes


def test_a_quantised_checkpoint_is_cast_only_where_it_is_not_quantised() -> None:
    """Llama-3.1-70B-FP8: embedding, head and norms in fp32 are twice their 16 bit."""
    spec = kvplan.load("llama3.1-70b-fp8")
    plain = 2 * 128_256 * 8_192 + 161 * 8_192
    assert spec.weights_bytes is not None
    assert served_bytes(spec, "float32") == spec.weights_bytes + 2 * plain


def test_what_stands_beside_packed_weights_is_never_cast() -> None:
    """GPTQ's zero points, order of columns, fp16 scales and spare biases; an embedding is."""
    beside = [
        StoredWeights(part="attention", dtype="int4", elements=4096),
        StoredWeights(part="attention", dtype="int32", elements=4, what="zero points"),
        StoredWeights(part="attention", dtype="int32", elements=64, what="order"),
        StoredWeights(part="attention", dtype="fp16", elements=32, what="scales"),
        StoredWeights(part="attention", dtype="fp16", elements=64, what="buffers"),
    ]
    spec = replace(
        LLAMA, weights=(*beside, StoredWeights(part="embedding", dtype="fp16", elements=640))
    )
    served = serve(spec, dtype="float32").spec
    assert list(served.weights[:-1]) == beside
    assert served.weights[-1] == StoredWeights(part="embedding", dtype="fp32", elements=640)
    with pytest.raises(RefusedError, match="quantised already: its weights hold int4"):
        serve(spec, quantization="fp8")


def test_a_second_copy_of_a_tied_head_is_not_served() -> None:
    """falcon-7b: 6,921,720,704 parameters; its head of 295,469,056 is the embedding again."""
    assert served_bytes("falcon-7b") == 2 * 6_921_720_704


@pytest.mark.parametrize(
    ("quantization", "bits_in_256"),
    [
        ("fp8", 8 * 256),
        ("int4", 4 * 256 + 2 * 16 + 2 * 4),
        ("nvfp4", 4 * 256 + 16 * 8),
        ("mxfp4", 4 * 256 + 8 * 8),
    ],
)
def test_linear_layers_are_quantised_and_the_rest_is_not(
    quantization: str, bits_in_256: int
) -> None:
    served = serve(LLAMA, quantization=quantization)
    assert served.spec.weights_bytes == LINEAR * bits_in_256 // 256 // 8 + KEPT_BYTES
    assert served.basis == "assumed"
    assert served.spec.dtype == "bf16"


# sizeof(block) of llama.cpp ggml/src/ggml-common.h, and the weights in a block
BLOCKS = {
    "q8_0": (34, 32),
    "q6_k": (210, 256),
    "q5_k": (176, 256),
    "q5_1": (24, 32),
    "q5_0": (22, 32),
    "q4_k": (144, 256),
    "q4_1": (20, 32),
    "q4_0": (18, 32),
    "iq4_nl": (18, 32),
    "iq4_xs": (136, 256),
    "q3_k": (110, 256),
    "iq3_s": (110, 256),
    "iq3_xxs": (98, 256),
    "q2_k": (84, 256),
    "iq2_s": (82, 256),
    "iq2_xs": (74, 256),
    "iq2_xxs": (66, 256),
}


@pytest.mark.parametrize("quantization", BLOCKS)
def test_a_type_of_llama_cpp_has_its_exact_bits(quantization: str) -> None:
    """Every matrix has the type; norms are fp32."""
    size_bytes, weights = BLOCKS[quantization]
    matrices = LINEAR + 2 * VOCABULARY
    assert served_bytes(LLAMA, "auto", quantization) == (
        matrices * size_bytes // weights + 4 * NORMS
    )


def test_every_quantisation_is_tested() -> None:
    assert set(QUANTIZERS) == {"fp8", "int4", "nvfp4", "mxfp4", *BLOCKS}


@pytest.mark.parametrize(
    ("quantization", "published_bytes", "tolerance"),
    [
        # hugging-quants/Meta-Llama-3.1-8B-Instruct-AWQ-INT4: 5.73 GB of safetensors
        ("int4", 5.73e9, 0.001),
        # neuralmagic/Meta-Llama-3.1-8B-Instruct-FP8: 9.08 GB
        ("fp8", 9.08e9, 0.001),
        # bartowski/Meta-Llama-3.1-8B-Instruct-GGUF; the files hold 8 MB of vocabulary too
        ("q8_0", 8.54e9, 0.0015),
        ("q6_k", 6.60e9, 0.002),
        # a mix: its output head is Q6_K, 135 MB more
        ("q4_0", 4.66e9, 0.035),
    ],
)
def test_published_files_of_llama_3_1_8b(
    quantization: str, published_bytes: float, tolerance: float
) -> None:
    counted = served_bytes(LLAMA, "auto", quantization)
    assert counted == pytest.approx(published_bytes, rel=tolerance)


@pytest.mark.parametrize(
    ("model", "quantization", "published", "scales"),
    [
        # a scale of the weights and one of the input for each of 80 x 7 matrices
        ("llama3.1-70b", "fp8", "llama3.1-70b-fp8", 80 * 7 * 2),
        ("qwen3-32b", "fp8", "qwen3-32b-fp8-static", 64 * 7 * 2),
        # the same for 128 experts of 3 matrices and 4 of attention, in 48 and 94 layers
        ("qwen3-30b-a3b", "nvfp4", "qwen3-30b-a3b-nvfp4", 48 * (128 * 3 + 4) * 2),
        ("qwen3-235b-a22b", "nvfp4", "qwen3-235b-a22b-nvfp4", 94 * (128 * 3 + 4) * 2),
    ],
)
def test_published_checkpoints_differ_by_the_scales_of_whole_matrices(
    model: str, quantization: str, published: str, scales: int
) -> None:
    """The catalogue's rows of those checkpoints are their files' own; scales are fp32."""
    assert kvplan.load(published).weights_bytes == (
        (served_bytes(model, "auto", quantization) or 0) + 4 * scales
    )


def test_experts_that_a_token_uses_are_the_same_when_quantised() -> None:
    """Qwen3-30B-A3B: 8 of 128 experts."""
    for quantization in ("int4", "q6_k", "q2_k"):
        spec = serve(kvplan.load("qwen3-30b-a3b"), quantization=quantization).spec
        assert active_experts(spec) == pytest.approx(8 / 128)


def test_routers_and_towers_are_not_quantised() -> None:
    spec = serve(kvplan.load("gemma3n-e4b"), quantization="q4_0").spec
    assert {("vision", "bf16", None), ("norm", "fp32", None)} <= rows(spec)
    assert ("router", "bf16", None) in rows(serve(kvplan.load("qwen3-30b-a3b"), "auto", "fp8").spec)


def test_an_fp32_checkpoint_can_be_quantised() -> None:
    """gemma-2-9b: 8,323,596,288 weights in linear layers, 917,504,000 + 605,696 beside them."""
    assert served_bytes("gemma2-9b", "auto", "fp8") == 8_323_596_288 + 2 * 918_109_696


@pytest.mark.parametrize("model", ["deepseek-v3", "llama3.1-70b-fp8", "gpt-oss-20b", "kimi-k2.5"])
def test_a_quantised_checkpoint_is_not_quantised_again(model: str) -> None:
    with pytest.raises(RefusedError, match="quantised already"):
        serve(kvplan.load(model), quantization="int4")


def test_weights_without_parts_cannot_be_quantised() -> None:
    weights = (StoredWeights(dtype="bf16", elements=8_030_261_248),)
    spec = replace(LLAMA, weights=weights)
    assert served_bytes(spec, "float32") == 4 * 8_030_261_248
    with pytest.raises(RefusedError, match="part"):
        serve(spec, quantization="int4")


@pytest.mark.parametrize(
    ("dtype", "quantization", "near"),
    [("float8", None, "float"), ("auto", "q4_k_m", "q4_k"), ("auto", "nvfp8", "nvfp4")],
)
def test_an_unknown_name_has_its_nearest(dtype: str, quantization: str | None, near: str) -> None:
    with pytest.raises(UsageError) as error:
        serve(LLAMA, dtype, quantization)
    assert near in (error.value.hint or "")


def test_weights_that_are_not_known_stay_unknown() -> None:
    assert served_bytes(replace(LLAMA, weights=()), "half", "int4") is None
