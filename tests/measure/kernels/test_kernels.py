"""Kernels by name: which there are, and that libraries are asked as they expect."""

from __future__ import annotations

import sys
from itertools import pairwise
from types import ModuleType

import pytest
import torch
from torch import Tensor

from kvplan.measure.kernels import attention
from kvplan.measure.kernels.kernels import MAKERS, Problem, UnavailableError, prepare
from kvplan.measure.question import Kernel
from kvplan.measure.shapes import AttentionShape, attention_shapes, kernels
from tests.measure.samples import question


def test_every_kernel_that_is_offered_can_be_prepared() -> None:
    offered = {
        (kernel, shape.is_latent)
        for model in ("llama3-70b", "deepseek-v3")
        for shape in attention_shapes(question(model))
        for kernel in kernels(shape, "cuda")
    }
    assert set(MAKERS) == offered


@pytest.mark.parametrize(
    ("model", "kernel", "reason"),
    [
        ("deepseek-v3", Kernel.FLASHMLA, "flash_mla is not installed"),
        ("deepseek-v3", Kernel.FLASHINFER, "flashinfer.mla is not installed"),
        ("deepseek-v3", Kernel.SDPA, "sdpa is not a kernel for MLA"),
        ("llama3-70b", Kernel.FLASHMLA, "flashmla is not a kernel for GQA"),
    ],
)
def test_a_kernel_that_is_not_there(model: str, kernel: Kernel, reason: str) -> None:
    (shape,) = attention_shapes(question(model))
    with pytest.raises(UnavailableError, match=reason):
        prepare(kernel, Problem(shape, 1, torch.device("cpu")))


def latent_problem(tokens: int = 128, sequences: int = 2) -> tuple[Problem, Tensor, Tensor]:
    shape = AttentionShape("MLA", 1, 16, 1, 576, 512, tokens, 0.1, "bf16", (128, 64, 128))
    torch.manual_seed(4)
    query = torch.randn(sequences, 16, 576).bfloat16()
    cache = torch.randn(sequences, tokens, 576).bfloat16()
    return Problem(shape, sequences, torch.device("cpu")), query, cache


def page_rows(cache: Tensor, table: Tensor, length: int) -> Tensor:
    """The rows that a page table names, one sequence after the other."""
    return torch.stack([cache[pages.long()].flatten(0, 1)[:length] for pages in table])


def fake_flash_mla() -> ModuleType:
    """FlashMLA's interface (flash_mla_interface.py of deepseek-ai/FlashMLA), in plain torch."""
    module = ModuleType("flash_mla")

    def get_mla_metadata(lengths: Tensor, heads_per_key: int, key_heads: int) -> tuple[str, str]:
        assert lengths.dtype is torch.int32
        assert (heads_per_key, key_heads) == (16, 1)
        return "tile scheduler", "splits"

    def flash_mla_with_kvcache(
        q: Tensor,
        k_cache: Tensor,
        block_table: Tensor,
        cache_seqlens: Tensor,
        head_dim_v: int,
        tile_scheduler_metadata: str,
        num_splits: str,
        softmax_scale: float,
    ) -> tuple[Tensor, None]:
        assert (tile_scheduler_metadata, num_splits) == ("tile scheduler", "splits")
        assert q.shape[1:] == (1, 16, 576)
        assert k_cache.shape[1:] == (64, 1, 576)
        rows = page_rows(k_cache.squeeze(2), block_table, int(cache_seqlens[0]))
        out = attention.latent_attention(q.squeeze(1), rows, head_dim_v, softmax_scale)
        return out.unsqueeze(1), None

    module.get_mla_metadata = get_mla_metadata  # type: ignore[attr-defined]
    module.flash_mla_with_kvcache = flash_mla_with_kvcache  # type: ignore[attr-defined]
    return module


def fake_flashinfer() -> ModuleType:
    """FlashInfer's BatchMLAPagedAttentionWrapper (flashinfer/mla.py), in plain torch."""
    module = ModuleType("flashinfer.mla")

    class BatchMLAPagedAttentionWrapper:
        def __init__(self, float_workspace_buffer: Tensor) -> None:
            assert float_workspace_buffer.dtype is torch.int8

        def plan(
            self,
            qo_indptr: Tensor,
            kv_indptr: Tensor,
            kv_indices: Tensor,
            kv_len_arr: Tensor,
            num_heads: int,
            head_dim_ckv: int,
            head_dim_kpe: int,
            page_size: int,
            causal: bool,
            sm_scale: float,
            q_data_type: torch.dtype,
            kv_data_type: torch.dtype,
        ) -> None:
            assert qo_indptr.tolist() == [0, 1, 2]
            assert (num_heads, head_dim_ckv, head_dim_kpe, page_size) == (16, 512, 64, 64)
            assert not causal
            assert q_data_type is kv_data_type is torch.bfloat16
            self.pages = [kv_indices[a:b] for a, b in pairwise(kv_indptr.tolist())]
            self.length, self.scale = int(kv_len_arr[0]), sm_scale

        def run(self, q_nope: Tensor, q_pe: Tensor, ckv_cache: Tensor, kpe_cache: Tensor) -> Tensor:
            rows = torch.cat([ckv_cache, kpe_cache], -1)
            rows = page_rows(rows, torch.stack(self.pages), self.length)
            query = torch.cat([q_nope, q_pe], -1)
            return attention.latent_attention(query, rows, q_nope.shape[-1], self.scale)

    module.BatchMLAPagedAttentionWrapper = (  # type: ignore[attr-defined]
        BatchMLAPagedAttentionWrapper
    )
    return module


@pytest.mark.parametrize(
    ("kernel", "name", "module"),
    [
        (Kernel.FLASHMLA, "flash_mla", fake_flash_mla()),
        (Kernel.FLASHINFER, "flashinfer.mla", fake_flashinfer()),
    ],
)
def test_paged_kernels_are_asked_as_they_expect(
    kernel: Kernel, name: str, module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kvplan.measure.kernels.kernels.find_spec", lambda _: module)
    monkeypatch.setitem(sys.modules, name, module)
    problem, query, cache = latent_problem()
    out = prepare(kernel, problem)(query, (cache,))
    key = cache.unsqueeze(1)
    exact = attention.reference(query, key, key[..., :512], 0.1)
    assert attention.relative_error(out, exact) < 3e-3
    with pytest.raises(UnavailableError, match="pages of 64 tokens do not divide"):
        prepare(kernel, latent_problem(tokens=100)[0])
