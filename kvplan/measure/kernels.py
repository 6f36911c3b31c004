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

from kvplan.errors import UsageError
from kvplan.measure import attention
from kvplan.measure.device import torch_dtype
from kvplan.measure.layouts import PLAIN
from kvplan.measure.names import Kernel
from kvplan.measure.shapes import AttentionShape

_PAGE = 64  # tokens of a page in FlashMLA
_WORKSPACE_BYTES = 128 << 20  # what FlashInfer asks for

Attend = Callable[[Tensor, tuple[Tensor, ...]], Tensor]


class UnavailableError(Exception):
    """This kernel cannot be used for this shape on this device, for the reason given."""


@dataclass(frozen=True)
class Setting:
    """Where and over what a kernel runs."""

    shape: AttentionShape
    sequences: int
    device: torch.device

    @property
    def dtype(self) -> torch.dtype:
        """Torch's dtype of the cache."""
        found: torch.dtype = torch_dtype(PLAIN[self.shape.dtype][0])
        return found


def candidates(shape: AttentionShape, device: torch.device) -> tuple[Kernel, ...]:
    """The kernels worth trying for a shape, what an engine would use first.

    Plain torch comes last and is for where nothing else works.
    """
    if device.type == "cpu":
        return (Kernel.TORCH,) if shape.expanded else (Kernel.SDPA, Kernel.TORCH)
    if shape.expanded:
        return (Kernel.FLASHMLA, Kernel.FLASHINFER, Kernel.GLUON, Kernel.TRITON, Kernel.TORCH)
    return (Kernel.SDPA, Kernel.TRITON, Kernel.TORCH)


def check_kernel(kernel: Kernel, shape: AttentionShape) -> None:
    """Raises UsageError where this kernel is none for such a cache."""
    latent = shape.expanded is not None
    if kernel is not Kernel.AUTO and (kernel, latent) not in _MAKERS:
        names = ", ".join(each.value for each in Kernel if (each, latent) in _MAKERS)
        raise UsageError(f"--kernel {kernel.value} is none for {shape.label}", f"one of: {names}")


def prepared(kernel: Kernel, setting: Setting) -> Attend:
    """The kernel, ready for this shape. Raises UnavailableError where it is not to be had."""
    maker = _MAKERS.get((kernel, setting.shape.expanded is not None))
    if maker is None:
        raise UnavailableError(f"{kernel.value} is no kernel for {setting.shape.label}")
    return maker(setting)


def _sdpa(setting: Setting) -> Attend:
    scale = setting.shape.scale
    return lambda query, cache: attention.fused(query, cache[0], cache[1], scale)


def _products(setting: Setting) -> Attend:
    scale = setting.shape.scale
    return lambda query, cache: attention.by_products(query, cache[0], cache[1], scale)


def _latent_products(setting: Setting) -> Attend:
    width, scale = setting.shape.value_width, setting.shape.scale
    return lambda query, cache: attention.latent_by_products(query, cache[0], width, scale)


def _module(name: str) -> Any:
    if find_spec(name.partition(".")[0]) is None:
        raise UnavailableError(f"{name} is not installed")
    try:
        return import_module(name)
    except (ImportError, OSError, RuntimeError) as error:
        raise UnavailableError(f"{name} cannot be loaded: {error}") from None


def _flashmla(setting: Setting) -> Attend:
    """FlashMLA's dense decode (deepseek-ai/FlashMLA, flash_mla_interface.py)."""
    module = _module("flash_mla")
    table, lengths, pages = _pages(setting)
    heads = setting.shape.query_heads
    metadata, splits = module.get_mla_metadata(lengths, heads, 1)

    def attend(query: Tensor, cache: tuple[Tensor, ...]) -> Tensor:
        paged = cache[0].view(pages, _PAGE, 1, setting.shape.key_width)
        out, _ = module.flash_mla_with_kvcache(
            query.unsqueeze(1),
            paged,
            table,
            lengths,
            setting.shape.value_width,
            metadata,
            splits,
            softmax_scale=setting.shape.scale,
        )
        return torch.squeeze(out, 1)

    return attend


def _flashinfer(setting: Setting) -> Attend:
    """FlashInfer's MLA decode (flashinfer-ai/flashinfer, flashinfer/mla.py)."""
    module = _module("flashinfer.mla")
    shape, where = setting.shape, setting.device
    table, lengths, pages = _pages(setting)
    workspace = torch.empty(_WORKSPACE_BYTES, dtype=torch.int8, device=where)
    wrapper = module.BatchMLAPagedAttentionWrapper(workspace)
    starts = torch.arange(setting.sequences + 1, dtype=torch.int32, device=where)
    dtype = setting.dtype
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


def _pages(setting: Setting) -> tuple[Tensor, Tensor, int]:
    """Page table, lengths and number of pages of caches that lie one after the other."""
    if setting.shape.entries % _PAGE:
        raise UnavailableError(f"its pages of {_PAGE} tokens do not divide the context")
    each = setting.shape.entries // _PAGE
    pages = each * setting.sequences
    table = torch.arange(pages, dtype=torch.int32, device=setting.device)
    lengths = torch.full(
        (setting.sequences,), setting.shape.entries, dtype=torch.int32, device=setting.device
    )
    return table.view(setting.sequences, each), lengths, pages


def _triton(setting: Setting) -> Attend:
    """Our own split-KV kernel for keys and values."""
    module = _own("triton_attention")
    scale = setting.shape.scale
    return lambda query, cache: module.gqa_decode(query, cache[0], cache[1], scale)


def _latent_triton(setting: Setting) -> Attend:
    """Our own split-KV kernel for MLA."""
    module = _own("triton_attention")
    width, scale = setting.shape.value_width, setting.shape.scale
    return lambda query, cache: module.mla_decode(query, cache[0], width, scale)


def _latent_gluon(setting: Setting) -> Attend:
    """The same for Hopper's many-headed MLA, in Triton's lower language."""
    module = _own("gluon_mla")
    shape = setting.shape
    rope = shape.key_width - shape.value_width
    index = setting.device.index or 0
    if not module.supported(index, shape.query_heads, shape.value_width, rope, setting.dtype):
        raise UnavailableError("written for more than 16 heads of 512 + 64 on a Hopper GPU")
    width, scale = shape.value_width, shape.scale
    return lambda query, cache: module.mla_decode(query, cache[0], width, scale)


def _own(name: str) -> Any:
    if find_spec("triton") is None:
        raise UnavailableError("triton is not installed")
    try:  # Triton's language changes from release to release, Gluon's most of all
        return import_module(f"kvplan.measure.{name}")
    except (ImportError, AttributeError) as error:
        raise UnavailableError(f"not for this release of Triton: {error}") from None


_MAKERS: dict[tuple[Kernel, bool], Callable[[Setting], Attend]] = {
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
