"""Kernels that attend to a cache, by the name that ``--kernel`` takes.

A kernel is prepared once for a shape and then called with a query and the caches of one layer:
key and value ``[sequences, kv_heads, tokens, width]``, or one MLA cache
``[sequences, tokens, latent + rope]``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from kvplan.measure.kernels import attention
from kvplan.measure.layouts import TORCH_DTYPES
from kvplan.measure.question import Kernel
from kvplan.measure.shapes import AttentionShape

_PAGE = 64  # tokens of a page in FlashMLA
_WORKSPACE_BYTES = 128 << 20  # what FlashInfer asks for

Attend = Callable[[Tensor, tuple[Tensor, ...]], Tensor]


class UnavailableError(Exception):
    """This kernel cannot be used for this shape on this device, for the reason given."""


@dataclass(frozen=True)
class Problem:
    """Over what, and where, a kernel runs."""

    shape: AttentionShape
    sequences: int
    device: torch.device

    @property
    def dtype(self) -> torch.dtype:
        """Torch's dtype of the cache."""
        dtype: torch.dtype = getattr(torch, TORCH_DTYPES[self.shape.dtype])
        return dtype


def prepare(kernel: Kernel, problem: Problem) -> Attend:
    """The kernel, ready for this problem. Raises UnavailableError where it is not to be had."""
    maker = MAKERS.get((kernel, problem.shape.is_latent))
    if maker is None:
        raise UnavailableError(f"{kernel.value} is not a kernel for {problem.shape.label}")
    return maker(problem)


def _sdpa(problem: Problem) -> Attend:
    scale = problem.shape.scale
    return lambda query, cache: attention.fused_attention(query, cache[0], cache[1], scale)


def _products(problem: Problem) -> Attend:
    scale = problem.shape.scale
    return lambda query, cache: attention.product_attention(query, cache[0], cache[1], scale)


def _latent_products(problem: Problem) -> Attend:
    width, scale = problem.shape.value_width, problem.shape.scale
    return lambda query, cache: attention.latent_attention(query, cache[0], width, scale)


def _module(name: str) -> Any:
    if find_spec(name.partition(".")[0]) is None:
        raise UnavailableError(f"{name} is not installed")
    try:
        return import_module(name)
    except (ImportError, OSError, RuntimeError) as error:
        raise UnavailableError(f"{name} cannot be loaded: {error}") from None


def _flashmla(problem: Problem) -> Attend:
    """FlashMLA's dense decode (deepseek-ai/FlashMLA, flash_mla_interface.py)."""
    module = _module("flash_mla")
    table, lengths, pages = _pages(problem)
    heads = problem.shape.query_heads
    metadata, splits = module.get_mla_metadata(lengths, heads, 1)

    def attend(query: Tensor, cache: tuple[Tensor, ...]) -> Tensor:
        paged = cache[0].view(pages, _PAGE, 1, problem.shape.key_width)
        out, _ = module.flash_mla_with_kvcache(
            query.unsqueeze(1),
            paged,
            table,
            lengths,
            problem.shape.value_width,
            metadata,
            splits,
            softmax_scale=problem.shape.scale,
        )
        return torch.squeeze(out, 1)

    return attend


def _flashinfer(problem: Problem) -> Attend:
    """FlashInfer's MLA decode (flashinfer-ai/flashinfer, flashinfer/mla.py)."""
    module = _module("flashinfer.mla")
    shape, where = problem.shape, problem.device
    table, lengths, pages = _pages(problem)
    workspace = torch.empty(_WORKSPACE_BYTES, dtype=torch.int8, device=where)
    wrapper = module.BatchMLAPagedAttentionWrapper(workspace)
    starts = torch.arange(problem.sequences + 1, dtype=torch.int32, device=where)
    dtype = problem.dtype
    wrapper.plan(
        qo_indptr=starts,
        kv_indptr=starts * table.shape[1],
        kv_indices=table.flatten(),
        kv_len_arr=lengths,
        num_heads=shape.query_heads,
        head_dim_ckv=shape.value_width,
        head_dim_kpe=shape.key_width - shape.value_width,
        page_size=_PAGE,
        causal=False,
        sm_scale=shape.scale,
        q_data_type=dtype,
        kv_data_type=dtype,
    )

    def attend(query: Tensor, cache: tuple[Tensor, ...]) -> Tensor:
        paged = cache[0].view(pages, _PAGE, shape.key_width)
        latent = shape.value_width
        out: Tensor = wrapper.run(
            q_nope=query[..., :latent],
            q_pe=query[..., latent:],
            ckv_cache=paged[..., :latent],
            kpe_cache=paged[..., latent:],
        )
        return out

    return attend


def _pages(problem: Problem) -> tuple[Tensor, Tensor, int]:
    """Page table, lengths and number of pages of caches that lie one after the other."""
    if problem.shape.entries % _PAGE:
        raise UnavailableError(f"its pages of {_PAGE} tokens do not divide the context")
    sequence_pages = problem.shape.entries // _PAGE
    pages = sequence_pages * problem.sequences
    table = torch.arange(pages, dtype=torch.int32, device=problem.device)
    lengths = torch.full(
        (problem.sequences,), problem.shape.entries, dtype=torch.int32, device=problem.device
    )
    return table.view(problem.sequences, sequence_pages), lengths, pages


def _triton(problem: Problem) -> Attend:
    """Our own split-KV kernel for keys and values."""
    module = _own("triton_attention")
    scale = problem.shape.scale
    return lambda query, cache: module.gqa_decode(query, cache[0], cache[1], scale)


def _latent_triton(problem: Problem) -> Attend:
    """Our own split-KV kernel for MLA."""
    module = _own("triton_attention")
    width, scale = problem.shape.value_width, problem.shape.scale
    return lambda query, cache: module.mla_decode(query, cache[0], width, scale)


def _latent_gluon(problem: Problem) -> Attend:
    """The same for Hopper's many-headed MLA, in Triton's lower language."""
    module = _own("gluon_mla")
    shape = problem.shape
    rope = shape.key_width - shape.value_width
    index = problem.device.index or 0
    if not module.supports(index, shape.query_heads, shape.value_width, rope, problem.dtype):
        raise UnavailableError("written for more than 16 heads of 512 + 64 on a Hopper GPU")
    width, scale = shape.value_width, shape.scale
    return lambda query, cache: module.mla_decode(query, cache[0], width, scale)


def _own(name: str) -> Any:
    if find_spec("triton") is None:
        raise UnavailableError("triton is not installed")
    try:  # Triton's language changes from release to release, Gluon's most of all
        return import_module(f"kvplan.measure.kernels.{name}")
    except (ImportError, AttributeError) as error:
        raise UnavailableError(f"not for this release of Triton: {error}") from None


MAKERS: dict[tuple[Kernel, bool], Callable[[Problem], Attend]] = {
    (Kernel.SDPA, False): _sdpa,
    (Kernel.TRITON, False): _triton,
    (Kernel.TORCH, False): _products,
    (Kernel.FLASHMLA, True): _flashmla,
    (Kernel.FLASHINFER, True): _flashinfer,
    (Kernel.GLUON, True): _latent_gluon,
    (Kernel.TRITON, True): _latent_triton,
    (Kernel.TORCH, True): _latent_products,
}
"""How each kernel is prepared, for keys and values (False) and for latents (True)."""
