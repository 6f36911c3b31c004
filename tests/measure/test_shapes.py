"""What a decode step reads and computes, and which kernels can."""

from __future__ import annotations

import pytest

from kvplan.errors import RefusedError, UsageError
from kvplan.kinds.mla import MLA
from kvplan.measure.question import Kernel
from kvplan.measure.shapes import attention_shapes, check_kernel, kernels
from tests.measure.samples import question


def test_keys_and_values() -> None:
    (gqa,) = attention_shapes(question("llama3-70b", 131_072))
    assert (gqa.layers, gqa.query_heads, gqa.kv_heads) == (80, 64, 8)
    assert not gqa.is_latent
    assert gqa.bytes_per_sequence == 131_072 * 4_096
    assert gqa.flops_per_sequence == 8 * 131_072 * 4_096  # 8 FLOP a byte: h100.md
    assert gqa.scale == pytest.approx(128**-0.5)


def test_latents() -> None:
    (mla,) = attention_shapes(question("deepseek-v3", 131_072))
    assert mla.is_latent
    assert mla.bytes_per_sequence == 131_072 * 1_152
    assert mla.flops_per_sequence == 2 * 128 * 131_072 * (576 + 512)
    assert round(mla.flops_per_sequence / mla.bytes_per_sequence, 1) == 241.8  # on the ridge
    assert mla.scale == pytest.approx(192**-0.5)
    (rank,) = attention_shapes(question("deepseek-v3", 131_072, tensor_parallel=8))
    assert (rank.query_heads, rank.bytes_per_sequence) == (16, 131_072 * 1_152)


def test_mla_keeps_what_shapes_expect() -> None:
    spec = question("deepseek-v3").spec
    kind = next(kind for kind, _, _ in spec.caches())
    assert isinstance(kind, MLA)
    assert [slot.role for slot in kind.slots()] == ["latent", "rope_key"]


def test_windows_read_their_window() -> None:
    shapes = attention_shapes(question("gemma3-27b", 8_192))
    assert [(shape.label, shape.layers, shape.entries) for shape in shapes] == [
        ("SWA", 52, 1_024),
        ("GQA", 10, 8_192),
    ]


@pytest.mark.parametrize("model", ["mamba-2.8b", "deepseek-v3.2", "gemma3n-e4b"])
def test_what_is_not_plain_attention_is_refused(model: str) -> None:
    with pytest.raises(RefusedError, match="is not measured"):
        attention_shapes(question(model))


def test_packed_caches_are_refused() -> None:
    with pytest.raises(RefusedError, match="bf16 and fp16 caches, not fp8"):
        attention_shapes(question("llama3-70b", kv_cache_dtype="fp8"))


@pytest.mark.parametrize(
    ("model", "device", "names"),
    [
        ("llama3-70b", "cuda", ["sdpa", "triton", "torch"]),
        ("llama3-70b", "cpu", ["sdpa", "torch"]),
        ("deepseek-v3", "cuda", ["flashmla", "flashinfer", "gluon", "triton", "torch"]),
        ("deepseek-v3", "cpu", ["torch"]),
    ],
)
def test_kernels_in_the_order_of_an_engine(model: str, device: str, names: list[str]) -> None:
    (shape,) = attention_shapes(question(model))
    assert [kernel.value for kernel in kernels(shape, device)] == names


def test_a_kernel_for_other_caches_is_refused() -> None:
    (mla,) = attention_shapes(question("deepseek-v3"))
    (gqa,) = attention_shapes(question("llama3-70b"))
    for shape, kernel in ((mla, Kernel.FLASHMLA), (gqa, Kernel.SDPA), (gqa, Kernel.AUTO)):
        check_kernel(kernel, shape)
    with pytest.raises(UsageError, match="--kernel sdpa is not a kernel for MLA") as refusal:
        check_kernel(Kernel.SDPA, mla)
    assert refusal.value.hint == "one of: flashmla, flashinfer, gluon, triton, torch"
    with pytest.raises(UsageError, match="--kernel gluon is not a kernel for GQA"):
        check_kernel(Kernel.GLUON, gqa)
