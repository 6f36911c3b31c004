"""Names of attention backends, as ``--attention-backend`` takes them.

vLLM 0.33.0 v1/attention/backends/registry.py, AttentionBackendEnum; which of them a model and a GPU
may have is for ``backends`` to say.
"""

from __future__ import annotations

from kvplan.errors import UsageError, nearest

BACKENDS = (
    *("FLASH_ATTN", "FLASH_ATTN_DIFFKV", "TRITON_ATTN", "TRITON_ATTN_DIFFKV", "TRITON_FLASH_ATTN"),
    *("ROCM_ATTN", "ROCM_SEGMENTED_ATTN", "ROCM_AITER_MLA", "ROCM_AITER_TRITON_MLA"),
    *("ROCM_AITER_FA", "ROCM_AITER_MLA_SPARSE", "XPU_MLA_SPARSE", "TORCH_SDPA", "FLASHINFER"),
    *("TRITON_FLASHINFER", "FLASHINFER_MLA", "TOKENSPEED_MLA", "FLASHINFER_MLA_SPARSE"),
    *("FLASHINFER_MLA_SPARSE_SM120", "FLASHINFER_MLA_SPARSE_SM90", "TRITON_MLA", "CUTLASS_MLA"),
    *("FLASHMLA", "FLASHMLA_SPARSE", "FLASHMLA_SPARSE_DSV4", "FLASHINFER_MLA_SPARSE_DSV4"),
    *("ROCM_FLASHMLA_SPARSE_DSV4", "FLASHMLA_SPARSE_DSV41", "FLASHINFER_MLA_SPARSE_DSV41"),
    *("ROCM_FLASHMLA_SPARSE_DSV41", "FLASHMLA_MEGA_ATTN_DSV41", "B12X", "FLASH_ATTN_MLA"),
    *("FLASH_ATTN_MLA_SPARSE", "FLASH_ATTN_MLA_SPARSE_FA4", "MINIMAX_M3_SPARSE", "CUTLASS_MSA"),
    *("TRITON_MSA", "STEP5_DSA", "NO_ATTENTION", "FLEX_ATTENTION", "HPC_ATTN"),
    *("ROCM_AITER_UNIFIED_ATTN", "CPU_ATTN", "CPU_MLA", "AMX_MLA", "TURBOQUANT", "ROCM_OCTAVE"),
    "ULTRAQUANT",
)
"""All but CUSTOM, which is a third party's."""
AUTO = "auto"


def parse_backend(text: str) -> str | None:
    """The backend of this name, in any case; None for ``auto``. Raises UsageError."""
    name = text.upper() if isinstance(text, str) else ""
    if name == AUTO.upper():
        return None
    if name not in BACKENDS:
        near = nearest(name, BACKENDS) or ["FLASH_ATTN", "FLASHINFER", "FLASHMLA", "TRITON_ATTN"]
        raise UsageError(
            f"{str(text)[:60]!r} is no attention backend of vLLM", f"such as {', '.join(near)}"
        )
    return name
