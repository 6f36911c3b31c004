"""Why a backend that vLLM has chosen is then not made for a layer.

These are no reasons of the choice: no other backend is tried, and the server does not start. Files
are those of vLLM 0.33.0, below v1/attention/backends.
"""

from __future__ import annotations

from kvplan.engines.vllm.kernels import HOPPER, Backend, Wanted
from kvplan.engines.vllm.latent_kernels import stored_dtype

_FP8_CAPABILITY = (8, 9)


def against_construction(backend: Backend, wanted: Wanted) -> str | None:
    """The reason, in vLLM's words; None where the layer is made."""
    if backend.name == "FLASH_ATTN_DIFFKV":
        return _against_two_widths(wanted)
    if backend.name.startswith("TRITON_"):
        return _against_triton(wanted)
    if backend.name == "FLASHMLA_SPARSE" and wanted.context_parallel > 1:
        return _against_divided(backend, wanted)
    return None


def _against_two_widths(wanted: Wanted) -> str | None:
    """Keys and values of two widths: 8 bits by FlashAttention 3 alone (flash_attn.py)."""
    if not wanted.is_quantized:
        return None
    if wanted.capability[0] != HOPPER:
        return "FlashAttention does not support fp8 kv-cache on this device."
    if wanted.kv_cache_dtype not in ("fp8", "fp8_e4m3", "fp8_e5m2"):
        return f"FLASH_ATTN_DIFFKV does not run kv_cache_dtype {wanted.kv_cache_dtype}."
    return None


def _against_triton(wanted: Wanted) -> str | None:
    """triton_attn.py:514, mla/triton_mla.py:203."""
    if wanted.is_rocm or not wanted.kv_cache_dtype.startswith("fp8"):
        return None
    if wanted.capability >= _FP8_CAPABILITY:
        return None
    name = "Triton MLA backend" if wanted.latent else "Triton attention backend"
    return (
        f"FP8 KV cache is not supported by the {name} on compute capability "
        f"{wanted.capability[0]}.{wanted.capability[1]}; native FP8 (fp8e4nv) requires SM89+."
    )


def _against_divided(backend: Backend, wanted: Wanted) -> str | None:
    """mla/flashmla_sparse.py:784."""
    stored = stored_dtype(backend, wanted.kv_cache_dtype, wanted.capability)
    if stored != "fp8_ds_mla":
        return (
            "DCP for FlashMLA sparse requires an fp8_ds_mla kv-cache; the bf16 sparse path is not "
            "supported under DCP."
        )
    return None
