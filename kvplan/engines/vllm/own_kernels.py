"""Backends that a model brings itself, those of recurrent states, and what states export.

Files are those of vLLM 0.33.0.
"""

from __future__ import annotations

from collections.abc import Iterable

from kvplan.engines.settings import ServerSettings
from kvplan.engines.vllm.kernels import (
    BLACKWELL,
    GEFORCE_BLACKWELL,
    HOPPER,
    ROCM,
    Backend,
    Capability,
)
from kvplan.engines.vllm.versions import rules_of
from kvplan.errors import RefusedError
from kvplan.kinds import CacheKind
from kvplan.kinds.index_keys import IndexKeys
from kvplan.spec import ModelSpec

_CHECKPOINT_TOKENS = {"flashinfer": 64, "flashkda": 16}
"""gdn/qwen_gdn_linear_attn.py, FLASHINFER_GDN_CHECKPOINT_ALIGNMENT; mamba/kda_checkpoint.py."""
_FLASH_KDA_WIDTH = _GDN_WIDTH = 128


def _own(name: str, *blocks: int, multiples: bool = False, prefill: bool = False) -> Backend:
    return Backend(
        name=name,
        blocks=lambda _: blocks,
        multiples=multiples,
        prefill_context_parallel=prefill,
    )


_COMPRESSOR = _own("CompressorBackend", 1, multiples=True)
_SWA = _own("DEEPSEEK_SPARSE_SWA", 32, multiples=True)
_KPOOL_TAIL = _own("KPOOL_TAIL", 1, multiples=True)
_PACKED = ("DEEPSEEK_V4_INDEXER", "DEEPSEEK_V41_INDEXER", "KPOOL_TAIL")
"""Backends that take block-outermost layouts alone (supported_kv_cache_layouts)."""


def own_backend(
    spec: ModelSpec, kind: CacheKind, capability: Capability, asked_for: str, *, indexed: bool
) -> Backend | None:
    """The backend that the model's own class names for this kind; None where it names none.

    ``asked_for`` is --attention-backend, and ``indexed`` whether the layers have an indexer.
    """
    name = spec.architecture or ""
    if kind.kind in ("compressed_kv", "latent_window", "compressor_state"):
        return _deepseek_v4(spec, kind, capability, asked_for)
    if isinstance(kind, IndexKeys):
        return _indexer(name, kind, capability)
    if kind.kind == "pool_tail":
        return _KPOOL_TAIL
    if name.startswith("MiMoV2") and getattr(kind, "v_head_dim", None) is not None:
        is_flash = capability[0] in (9, 10)
        row = "FLASH_ATTN_DIFFKV" if is_flash else "TRITON_ATTN_DIFFKV"
        return Backend(name=row, slides=True, context_parallel=is_flash)
    if name.startswith("MiniMaxM3") and indexed:
        return _own("MINIMAX_M3_SPARSE", 128)
    return None


def _deepseek_v4(
    spec: ModelSpec, kind: CacheKind, capability: Capability, asked_for: str
) -> Backend:
    """models/deepseek_v4/nvidia/model.py:537: FlashMLA, and FlashInfer on SM12x or asked for.

    Raises RefusedError for GPUs that neither runs on.
    """
    if capability == ROCM:
        raise RefusedError(f"{spec.name}: how vLLM 0.33.0 pages it on AMD GPUs is not known here")
    if capability[0] not in (HOPPER, BLACKWELL, GEFORCE_BLACKWELL):
        raise RefusedError(
            f"{spec.name}: vLLM 0.33.0 refuses it: FlashMLA Sparse is only supported on Hopper and "
            "Blackwell DC devices."
        )
    if kind.kind == "compressor_state":
        return _COMPRESSOR
    if kind.kind == "latent_window":
        return _SWA
    name = spec.architecture or ""
    release = "DSV41" if name.startswith("DeepseekV41") else "DSV4"
    tokens = _v4_tokens(name, capability)
    if capability[0] == GEFORCE_BLACKWELL or asked_for.startswith("FLASHINFER"):
        return _own(f"FLASHINFER_MLA_SPARSE_{release}", tokens)
    return _own(f"FLASHMLA_SPARSE_{release}", tokens)


def _v4_tokens(name: str, capability: Capability) -> int:
    if not name.startswith("DeepseekV41"):
        return 256
    return 64 if capability[0] == HOPPER else 128


def _indexer(name: str, kind: IndexKeys, capability: Capability) -> Backend:
    """Backends of index keys: v1/attention/backends/mla/indexer.py, and two models' own."""
    tag = kind.tag()
    if tag == "MSA":
        return _own("MINIMAX_M3_SPARSE_INDEXER", 128)
    if tag == "QSA":
        return _own("QWEN4_EXP_EXP_QSA_STATE", 1, multiples=True)
    if name.startswith("DeepseekV4"):
        release = "V41" if name.startswith("DeepseekV41") else "V4"
        tokens = _v4_tokens(name, capability)
        return _own(f"DEEPSEEK_{release}_INDEXER", tokens, prefill=True)
    sizes: tuple[int, ...] = (64,)
    if capability == ROCM:
        sizes = (1, 16)
    elif kind.compress_ratio > 1:
        states = (64,) if capability[0] == GEFORCE_BLACKWELL else (32, 64)
        sizes = tuple(kind.compress_ratio * number for number in states)
    return _own("DEEPSEEK_V32_INDEXER", *sizes, prefill=True)


def packs_blocks(chosen: Iterable[Backend]) -> bool:
    """Whether a block's pages of unequal size lie side by side."""
    return any(backend.name in _PACKED for backend in chosen)


_STATES = {
    "mamba1": "MAMBA1_ATTN",
    "mamba2": "MAMBA2_ATTN",
    "gated_delta_net": "GDN_ATTN",
    "kimi_delta_attention": "GDN_ATTN",
    "lightning_attention": "BAILING_LINEAR_ATTN",
    "short_conv": "SHORT_CONV_ATTN",
}


def state_backend(spec: ModelSpec, kind: CacheKind) -> str:
    """The backend of a recurrent state."""
    if kind.kind == "kimi_delta_attention" and (spec.architecture or "").startswith("KimiK3"):
        return "KIMI_K3_KDA"
    return _STATES.get(kind.kind, kind.kind.upper())


def prefill_checkpoints(
    spec: ModelSpec, capability: Capability, settings: ServerSettings
) -> tuple[int | None, int]:
    """What checkpoints inside a prefill are multiples of, and the pages that they take.

    The alignment is None unless every recurrent layer has one. Mamba-2 takes a page for a
    checkpoint anywhere, and states no alignment (mamba_mixer2.py:1108).
    """
    if not (settings.enable_prefix_caching and rules_of(settings).checkpoints_states):
        return None, 0
    kinds = {kind for group in spec.groups for kind in group.caches if kind.fixed_entries() == 1}
    answers = {_checkpoint(spec, kind, capability) for kind in kinds}
    pages = max((pages for _, pages in answers), default=0)
    alignments = {tokens for tokens, _ in answers}
    if not answers or None in alignments:
        exports = any(kind.kind == "mamba2" for kind in kinds)
        return None, pages if exports else 0
    return max(tokens for tokens in alignments if tokens is not None), pages


def _checkpoint(spec: ModelSpec, kind: CacheKind, capability: Capability) -> tuple[int | None, int]:
    if kind.kind == "mamba2":
        return None, 1
    if kind.kind == "gated_delta_net" and not (spec.architecture or "").startswith("OlmoHybrid"):
        wide = getattr(kind, "key_head_dim", 0) == _GDN_WIDTH
        if capability == (9, 0) or (capability[0] in (10, 12) and wide):
            return _CHECKPOINT_TOKENS["flashinfer"], 1
    if kind.kind == "kimi_delta_attention" and _has_flash_kda(spec, kind, capability):
        return _CHECKPOINT_TOKENS["flashkda"], 1
    return None, 0


def _has_flash_kda(spec: ModelSpec, kind: CacheKind, capability: Capability) -> bool:
    """models/kimi_k3/nvidia/kda.py:486, models/glm5next/common/kda.py:137: a bounded gate."""
    bounded = (spec.architecture or "").startswith(("KimiK3", "Glm5Next"))
    wide = getattr(kind, "head_dim", 0) == _FLASH_KDA_WIDTH
    return bounded and wide and capability[0] in (9, 10, 12) and spec.dtype == "bf16"
