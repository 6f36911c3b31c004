"""vLLM's backends of latent (MLA) attention: vLLM 0.33.0 v1/attention/backends/mla."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from kvplan.engines.vllm.kernels import (
    AUTO,
    BLACKWELL,
    GEFORCE_BLACKWELL,
    HOPPER,
    Backend,
    Capability,
    Wanted,
)
from kvplan.errors import RefusedError

_HALF, _BF16 = ("bf16", "fp16"), ("bf16",)
_PLAIN = (AUTO, "fp16", "bf16")
_FP8 = ("fp8", "fp8_e4m3")
_ROPE_FREE_HEAD, _ROPE_HEAD = 512, 576
_USUAL_HEADS = (320, 512, 576)  # attention/mla_attention.py, MLACommonBackend


def _usual(wanted: Wanted) -> bool:
    return wanted.head_size in _USUAL_HEADS


def _latent(wanted: Wanted) -> tuple[int, int, int, int]:
    return wanted.latent or (0, 0, 0, 0)


def _on(*majors: int) -> Callable[[Wanted], bool]:
    return lambda wanted: wanted.capability[0] in majors


def _pages(*tokens: int) -> Callable[[Wanted], tuple[int, ...]]:
    return lambda _: tokens


def _against_flashmla(wanted: Wanted) -> str | None:
    if wanted.capability[0] != HOPPER:
        return "FlashMLA Dense is only supported on Hopper devices."
    return None


def _against_flashinfer(wanted: Wanted) -> str | None:
    nope = _latent(wanted)[2]
    if nope not in (64, 128, 192):
        return f"FlashInfer MLA kernel requires qk_nope_head_dim in [64, 128, 192], but got {nope}"
    return None


def _against_sparse_flash(wanted: Wanted) -> str | None:
    if wanted.kv_cache_dtype not in _PLAIN:
        return "FlashAttention MLA Sparse currently supports only FP16/BF16 KV cache"
    if wanted.context_parallel > 1:
        return "FlashAttention MLA Sparse does not support DCP for now"
    return None


def _against_sparse_flashmla(wanted: Wanted) -> str | None:
    major, dtype = wanted.capability[0], wanted.kv_cache_dtype
    if wanted.head_size == _ROPE_FREE_HEAD:
        if dtype not in (*_PLAIN, "fp8_ds_mla") or major != HOPPER:
            return (
                "FLASHMLA_SPARSE supports head_size 512 only with bf16 or fp8_ds_mla kv-cache on "
                f"SM90 (NoPE), got kv_cache_dtype={dtype}"
            )
        if _latent(wanted)[1]:
            return "FLASHMLA_SPARSE supports head_size 512 only for rope-free (NoPE) models"
    if dtype == "nvfp4_ds_mla" and major != BLACKWELL:
        return f"FLASHMLA_SPARSE only supports the {dtype} kv-cache dtype on SM100 (Blackwell)"
    return None


def _against_sparse_hopper(wanted: Wanted) -> str | None:
    rank, rope, _, _ = _latent(wanted)
    if rank != _ROPE_FREE_HEAD:
        return "FLASHINFER_MLA_SPARSE_SM90 requires kv_lora_rank=512"
    if rope not in (0, 64):
        return "FLASHINFER_MLA_SPARSE_SM90 requires qk_rope_head_dim in (0, 64)"
    return None


def _against_sparse_blackwell(wanted: Wanted) -> str | None:
    rank, rope, nope, _ = _latent(wanted)
    if wanted.prefill_context_parallel > 1 and wanted.context_parallel > 1:
        return "FLASHINFER_MLA_SPARSE does not support combined PCP+DCP; use FLASHMLA_SPARSE"
    if wanted.kv_cache_dtype == "fp8_ds_mla":
        return "FLASHINFER_MLA_SPARSE SM10 does not support fp8_ds_mla kv-cache dtype"
    if rope == 0:
        if (nope, rank) != (256, 512):
            return (
                "FlashInfer native no-rope MLA requires qk_nope_head_dim=256 and "
                f"kv_lora_rank=512, but got qk_nope_head_dim={nope}, kv_lora_rank={rank}"
            )
    elif nope not in (128, 192):
        return (
            f"FlashInfer MLA Sparse kernel requires qk_nope_head_dim in [128, 192], but got {nope}"
        )
    return None


def _against_sparse_fa4(wanted: Wanted) -> str | None:
    rank, rope, _, _ = _latent(wanted)
    if (rank, rope) != (512, 64):
        return (
            "FA4 sparse MLA requires (kv_lora_rank, qk_rope_head_dim) == (512, 64), got "
            f"({rank}, {rope})"
        )
    gathered = wanted.query_heads * wanted.context_parallel
    counts = (8, 16, 32, 64) if wanted.context_parallel > 1 else (8, 16, 32, 64, 128)
    if gathered not in counts:
        return f"FA4 sparse MLA requires {counts} gathered query heads, got {gathered}"
    return _against_sparse_blackwell(wanted)


_Latent = partial(Backend, latent=True, prefill_context_parallel=True)
_Dense = partial(_Latent, heads=_usual, context_parallel=True)
_Sparse = partial(_Latent, sparse=True)

_DENSE = {
    row.name: row
    for row in (
        _Dense(name="FLASH_ATTN_MLA", kv_cache_dtypes=_PLAIN, capability=_on(9)),
        _Dense(
            name="FLASHMLA",
            kv_cache_dtypes=(*_PLAIN, *_FP8),
            blocks=_pages(64),
            multiples=False,
            capability=_on(9, 10),
            combination=_against_flashmla,
        ),
        _Dense(
            name="FLASHINFER_MLA",
            kv_cache_dtypes=(*_PLAIN, *_FP8),
            blocks=_pages(32, 64),
            multiples=False,
            capability=_on(10),
            combination=_against_flashinfer,
        ),
        _Dense(
            name="TOKENSPEED_MLA",
            kv_cache_dtypes=_FP8,
            blocks=_pages(32, 64),
            multiples=False,
            capability=_on(10),
            combination=lambda _: "tokenspeed_mla package is not installed.",
        ),
        _Dense(
            name="CUTLASS_MLA",
            kv_cache_dtypes=(*_PLAIN, *_FP8),
            blocks=_pages(128),
            multiples=False,
            capability=_on(10),
        ),
        _Latent(name="TRITON_MLA", kv_cache_dtypes=(*_PLAIN, *_FP8), context_parallel=True),
    )
}
_SPARSE = {
    row.name: row
    for row in (
        _Sparse(
            name="FLASH_ATTN_MLA_SPARSE",
            kv_cache_dtypes=_PLAIN,
            blocks=_pages(64),
            capability=_on(9),
            combination=_against_sparse_flash,
        ),
        _Sparse(
            name="FLASHMLA_SPARSE",
            dtypes=_BF16,
            kv_cache_dtypes=(AUTO, "bf16", "fp8_ds_mla", "fp8", "nvfp4_ds_mla"),
            heads=lambda wanted: wanted.head_size in (576, 512),
            blocks=_pages(64),
            capability=_on(9, 10),
            context_parallel=True,
            combination=_against_sparse_flashmla,
        ),
        _Sparse(
            name="FLASHINFER_MLA_SPARSE_SM90",
            dtypes=_BF16,
            kv_cache_dtypes=(AUTO, "bf16", *_FP8),
            heads=lambda wanted: wanted.head_size in (512, 576),
            blocks=_pages(64),
            capability=_on(9),
            combination=_against_sparse_hopper,
        ),
        _Sparse(
            name="FLASHINFER_MLA_SPARSE",
            kv_cache_dtypes=(*_PLAIN, *_FP8),
            blocks=_pages(32),
            capability=_on(10),
            context_parallel=True,
            combination=_against_sparse_blackwell,
        ),
        _Sparse(
            name="FLASH_ATTN_MLA_SPARSE_FA4",
            dtypes=_BF16,
            kv_cache_dtypes=(AUTO, "bf16"),
            heads=lambda wanted: wanted.head_size == _ROPE_HEAD,
            blocks=_pages(64),
            capability=_on(10),
            context_parallel=True,
            combination=_against_sparse_fa4,
        ),
        _Latent(
            name="ROCM_AITER_MLA_SPARSE",
            sparse=True,
            kv_cache_dtypes=(*_PLAIN, *_FP8),
            blocks=_pages(1, 16),
            capability=lambda wanted: wanted.is_rocm,
        ),
        _Sparse(
            name="FLASHINFER_MLA_SPARSE_SM120",
            dtypes=_BF16,
            kv_cache_dtypes=(AUTO, *_FP8, "fp8_ds_mla"),
            blocks=_pages(64),
            capability=_on(12),
            context_parallel=True,
        ),
    )
}
LATENT = _DENSE | _SPARSE
"""Every backend of latents by its name."""

_FEW_HEADS = 16


def latent_order(wanted: Wanted) -> tuple[Backend, ...]:
    """Backends of latents, in the order in which they are tried."""
    return tuple(LATENT[name] for name in _names(wanted))


def _names(wanted: Wanted) -> tuple[str, ...]:
    major = wanted.capability[0]
    if wanted.is_rocm:
        return ("ROCM_AITER_MLA_SPARSE",) if wanted.is_sparse else ("TRITON_MLA",)
    if major == GEFORCE_BLACKWELL:
        return ("TRITON_MLA", "FLASHINFER_MLA_SPARSE_SM120")
    if major != BLACKWELL:
        tail = ("FLASH_ATTN_MLA_SPARSE", "FLASHMLA_SPARSE")
        hopper = ("FLASHINFER_MLA_SPARSE_SM90",)
        sparse = hopper + tail if wanted.head_size == _ROPE_FREE_HEAD else tail + hopper
        return ("FLASH_ATTN_MLA", "FLASHMLA", "FLASHINFER_MLA", "TRITON_MLA", *sparse)
    blackwell: tuple[str, ...] = ("FLASHMLA_SPARSE", "FLASHINFER_MLA_SPARSE")
    if wanted.is_quantized:
        blackwell = ("FLASHINFER_MLA_SPARSE", "FLASHMLA_SPARSE")
    elif wanted.query_heads <= _FEW_HEADS:
        blackwell = ("FLASH_ATTN_MLA_SPARSE_FA4", "FLASHINFER_MLA_SPARSE", "FLASHMLA_SPARSE")
    return (
        *("FLASHINFER_MLA", "TOKENSPEED_MLA", "CUTLASS_MLA", "FLASH_ATTN_MLA", "FLASHMLA"),
        "TRITON_MLA",
        *blackwell,
    )


def stored_dtype(backend: Backend, kv_cache_dtype: str, capability: Capability) -> str:
    """What this backend stores for the dtype asked for (attention/mla_attention.py:359)."""
    is_quantized = kv_cache_dtype not in _PLAIN
    if "_DSV4" in backend.name:
        packs = backend.name.startswith("FLASHMLA") or capability[0] == GEFORCE_BLACKWELL
        return _packed_v4_dtype(kv_cache_dtype) if packs else kv_cache_dtype
    if backend.name == "FLASHMLA_SPARSE" and is_quantized and kv_cache_dtype != "nvfp4_ds_mla":
        return "fp8_ds_mla"
    if backend.name == "FLASHINFER_MLA_SPARSE_SM120" and kv_cache_dtype in (AUTO, *_FP8):
        return "fp8_ds_mla"
    return kv_cache_dtype


def _packed_v4_dtype(kv_cache_dtype: str) -> str:
    """models/deepseek_v4/attention.py:83, _resolve_dsv4_kv_cache_dtype."""
    if kv_cache_dtype != AUTO and not kv_cache_dtype.startswith("fp8"):
        raise RefusedError(
            "vLLM 0.33.0: DeepseekV4 fp8_ds_mla layout only supports fp8 kv-cache, got "
            f"{kv_cache_dtype}. Please set `--kv-cache-dtype fp8` or select a backend that "
            "supports bfloat16 KV cache."
        )
    return "fp8_ds_mla"
