"""vLLM's attention backends: what each one runs, and in which order they are tried.

One row a backend, from its class in vLLM 0.33.0 v1/attention/backends; the order is that of
platforms/cuda.py:81 and platforms/rocm.py:531, _get_backend_priorities.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

AUTO = "auto"
_HALF = ("bf16", "fp16")
_ALL = (*_HALF, "fp32")
_UNQUANTIZED = (AUTO, "fp16", "bf16")
_FP8 = ("fp8", "fp8_e4m3")
_PER_HEAD = ("int4_per_token_head", "int8_per_token_head", "fp8_per_token_head")
_HIGHEST_FLASHINFER = (12, 1)
_RELEASE_3, _RELEASE_4 = 3, 4
_FA4_PAGE_TOKENS, _FA4_FP8_PAGE_TOKENS = 128, 64  # fa_utils.py:14, flash_attn.py:322

AMPERE, HOPPER, BLACKWELL, GEFORCE_BLACKWELL = 8, 9, 10, 12
"""Major compute capabilities: A100 and its kin, H100, B200, and RTX 50."""
_WIDE_HEAD, _WIDEST_HEAD, _TMEM_HEAD, _LEAST_TRITON_HEAD, _SMALL_HEAD = 256, 512, 128, 32, 64

Capability = tuple[int, int]
ROCM: Capability = (0, 0)
"""In the place of a compute capability: an AMD GPU."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a layer asks of a backend (AttentionSelectorConfig), on one GPU."""

    capability: Capability
    head_size: int
    dtype: str
    kv_cache_dtype: str = AUTO
    """As vLLM names it, ``auto`` where the cache has the model's dtype."""
    block_size: int | None = None
    query_heads: int = 1
    kv_heads: int = 1
    latent: tuple[int, int, int, int] | None = None
    """kv_lora_rank, qk_rope_head_dim, qk_nope_head_dim and v_head_dim of a latent."""
    is_sparse: bool = False
    has_sink: bool = False
    has_image_prefix: bool = False
    """Whether the tokens of an image see one another (use_mm_prefix)."""
    is_cross: bool = False
    slides: bool = False
    prefill_context_parallel: int = 1
    context_parallel: int = 1

    @property
    def is_rocm(self) -> bool:
        """Whether it is an AMD GPU."""
        return self.capability == ROCM

    @property
    def is_quantized(self) -> bool:
        """Whether the cache is not in a plain float."""
        return self.kv_cache_dtype not in _UNQUANTIZED


def _always(wanted: Wanted) -> bool:
    del wanted
    return True


def _nothing(wanted: Wanted) -> str | None:
    del wanted
    return None


def _multiples_of_16(wanted: Wanted) -> tuple[int, ...]:
    del wanted
    return (16,)


def _exactly(*tokens: int) -> Callable[[Wanted], tuple[int, ...]]:
    return lambda _: tokens


def _majors(*majors: int) -> Callable[[Wanted], bool]:
    return lambda wanted: wanted.capability[0] in majors


@dataclass(frozen=True, kw_only=True)
class Backend:
    """One backend: what it supports, in the order in which vLLM asks.

    ``blocks`` are the pages that its kernels take, and ``multiples`` whether any multiple of these
    is one too; ``combination`` what it says against a whole configuration.
    """

    name: str
    dtypes: tuple[str, ...] = _HALF
    kv_cache_dtypes: tuple[str, ...] = _UNQUANTIZED
    heads: Callable[[Wanted], bool] = _always
    kv_cache: Callable[[Wanted], bool] = _always
    blocks: Callable[[Wanted], tuple[int, ...]] = _multiples_of_16
    multiples: bool = True
    capability: Callable[[Wanted], bool] = _always
    latent: bool = False
    sparse: bool = False
    sink: Callable[[Wanted], bool] = lambda _: False
    image_prefix: Callable[[Wanted], bool] = lambda _: False
    cross: bool = False
    slides: bool = False
    prefill_context_parallel: bool = False
    context_parallel: bool = False
    combination: Callable[[Wanted], str | None] = _nothing

    def reasons(self, wanted: Wanted) -> list[str]:
        """Why it does not run this, in vLLM's words (v1/attention/backend.py:285)."""
        blocks, size = self.blocks(wanted), wanted.block_size
        answers = {
            "head_size not supported": self.heads(wanted),
            "dtype not supported": wanted.dtype in self.dtypes,
            "kv_cache_dtype not supported": self._stores(wanted),
            "block_size not supported": size is None or any(size % b == 0 for b in blocks),
            "partial multimodal token full attention not supported": (
                not wanted.has_image_prefix or self.image_prefix(wanted)
            ),
            f"{'' if wanted.latent else 'non-'}MLA not supported": (
                self.latent == (wanted.latent is not None)
            ),
            "attention sinks not supported": not wanted.has_sink or self.sink(wanted),
            f"{'' if wanted.is_sparse else 'non-'}sparse not supported": (
                self.sparse == wanted.is_sparse
            ),
            "compute capability not supported": self.capability(wanted),
            "attention type encoder_decoder not supported": self.cross or not wanted.is_cross,
            "sliding window not supported": self.slides or not wanted.slides,
            "PCP not supported": (
                self.prefill_context_parallel or wanted.prefill_context_parallel == 1
            ),
            "DCP not supported": self.context_parallel or wanted.context_parallel == 1,
        }
        against = self.combination(wanted)
        return [reason for reason, fits in answers.items() if not fits] + (
            [against] if against else []
        )

    def _stores(self, wanted: Wanted) -> bool:
        return wanted.kv_cache_dtype in self.kv_cache_dtypes and self.kv_cache(wanted)

    def preferred_tokens(self, wanted: Wanted, default: int) -> int:
        """The page it would have (get_preferred_block_size)."""
        blocks = self.blocks(wanted)
        return default if any(default % size == 0 for size in blocks) else min(blocks)


def flash_attention(wanted: Wanted) -> int:
    """The release of FlashAttention for this layer (fa_utils.py, get_flash_attn_version)."""
    major = wanted.capability[0]
    if major == HOPPER:
        return 4 if wanted.head_size > _WIDE_HEAD else 3
    if major != BLACKWELL:
        return 2
    if wanted.head_size == _WIDE_HEAD:
        is_plain = not (wanted.has_sink or wanted.is_quantized or wanted.has_image_prefix)
        pages = wanted.block_size is None or wanted.block_size % _FA4_PAGE_TOKENS == 0
        return 4 if is_plain and pages and wanted.context_parallel == 1 else 2
    return 2 if wanted.head_size > _TMEM_HEAD else 4


def _has_release_4(wanted: Wanted) -> bool:
    return wanted.capability[0] in (9, 10, 11)


def _flash_heads(wanted: Wanted) -> bool:
    most = _WIDEST_HEAD if _has_release_4(wanted) else _WIDE_HEAD
    return wanted.head_size % 8 == 0 and wanted.head_size <= most


def _flash_blocks(wanted: Wanted) -> tuple[int, ...]:
    major, size = wanted.capability[0], wanted.head_size
    if major == HOPPER and size == _WIDEST_HEAD and wanted.kv_cache_dtype in _FP8:
        return (_FA4_FP8_PAGE_TOKENS,)
    if major == BLACKWELL and size == _WIDE_HEAD and flash_attention(wanted) == _RELEASE_4:
        return (_FA4_PAGE_TOKENS,)
    return (16,)


def _flash_stores(wanted: Wanted) -> bool:
    return not wanted.is_quantized or wanted.capability[0] in (9, 10)


def _against_flash(wanted: Wanted) -> str | None:
    major, release = wanted.capability[0], flash_attention(wanted)
    if wanted.has_sink and major < HOPPER:
        return "sink not supported on compute capability < 9.0"
    if wanted.has_image_prefix and wanted.is_quantized and major == HOPPER:
        return "SM90 FP8 KV with mm_prefix requires Triton"
    if wanted.is_quantized and not (
        (major == HOPPER and (release == _RELEASE_3 or wanted.head_size == _WIDEST_HEAD))
        or (major == BLACKWELL and release == _RELEASE_4)
    ):
        return "FP8 KV cache requires FA3 on SM90, FA4 with head_size=512 on SM90, or FA4 on SM100"
    if wanted.has_image_prefix and release != _RELEASE_4:
        return (
            "mm_prefix (PrefixLM bidirectional attention) requires FlashAttention v4, which does "
            "not resolve for this head_size"
        )
    return None


def _infer_stores(wanted: Wanted) -> bool:
    if wanted.kv_cache_dtype != "nvfp4":
        return True
    return wanted.capability[0] in (8, 9, 10, 12)


def _infer_blocks(wanted: Wanted) -> tuple[int, ...]:
    large = wanted.capability[0] == BLACKWELL and wanted.query_heads // wanted.kv_heads > 1
    return (16, 32, 64, *((128, 256, 512, 1024) if large else ()))


def _against_infer(wanted: Wanted) -> str | None:
    if wanted.kv_cache_dtype == "nvfp4" and wanted.capability[0] in (8, 9, 12):
        if wanted.head_size == _SMALL_HEAD:
            return "fa2 prefill misreads an NVFP4 KV cache at head_size 64"
        if wanted.has_sink:
            return "the sink prefill wrapper cannot read an NVFP4 KV cache"
    return None


def _infer_capability(wanted: Wanted) -> bool:
    return (8, 0) <= wanted.capability <= _HIGHEST_FLASHINFER


_FLASH_ATTN = Backend(
    name="FLASH_ATTN",
    kv_cache_dtypes=(*_UNQUANTIZED, *_FP8),
    heads=_flash_heads,
    kv_cache=_flash_stores,
    blocks=_flash_blocks,
    capability=lambda wanted: wanted.capability >= (8, 0),
    sink=_majors(9, 10),
    image_prefix=_has_release_4,
    cross=True,
    slides=True,
    context_parallel=True,
    combination=_against_flash,
)
_FLASHINFER = Backend(
    name="FLASHINFER",
    kv_cache_dtypes=(*_UNQUANTIZED, *_FP8, "fp8_e5m2", "nvfp4"),
    heads=lambda wanted: wanted.head_size in (64, 128, 256, 512),
    kv_cache=_infer_stores,
    blocks=_infer_blocks,
    multiples=False,
    capability=_infer_capability,
    sink=_majors(9, 10, 12),
    slides=True,
    context_parallel=True,
    combination=_against_infer,
)
_TRITON_ATTN = Backend(
    name="TRITON_ATTN",
    dtypes=_ALL,
    kv_cache_dtypes=(*_UNQUANTIZED, *_FP8, "fp8_e5m2", *_PER_HEAD),
    heads=lambda wanted: wanted.head_size >= _LEAST_TRITON_HEAD,
    sink=_always,
    image_prefix=_always,
    cross=True,
    slides=True,
)
_FLEX_ATTENTION = Backend(name="FLEX_ATTENTION", dtypes=_ALL, image_prefix=_always, slides=True)


def _against_causal(wanted: Wanted) -> str | None:
    """Of the causal half of a composite, which never sees an image's tokens."""
    return _against_flash(_causal(wanted))


def _causal(wanted: Wanted) -> Wanted:
    return replace(wanted, has_image_prefix=False)


_ROCM_HEADS = (32, 64, 80, 96, 128, 160, 192, 224, 256)
_ROCM_ATTN = Backend(
    name="ROCM_ATTN",
    dtypes=_ALL,
    kv_cache_dtypes=(*_UNQUANTIZED, *_FP8, "fp8_e5m2"),
    heads=lambda wanted: wanted.head_size in _ROCM_HEADS,
    slides=True,
)
_TRITON_FLASH_ATTN = Backend(
    name="TRITON_FLASH_ATTN",
    kv_cache_dtypes=(*_UNQUANTIZED, *_FP8),
    heads=lambda wanted: wanted.head_size in (256, 512),
    blocks=lambda wanted: _flash_blocks(_causal(wanted)),
    capability=_majors(9),
    image_prefix=_always,
    sink=_always,
    slides=True,
    combination=_against_causal,
)
_TRITON_FLASHINFER = Backend(
    name="TRITON_FLASHINFER",
    kv_cache_dtypes=(*_UNQUANTIZED, *_FP8, "fp8_e5m2"),
    heads=lambda wanted: wanted.head_size in (256, 512),
    blocks=_exactly(64),
    multiples=False,
    capability=_majors(10),
    image_prefix=_always,
    sink=_always,
    slides=True,
)

ORDINARY = (
    _TRITON_FLASH_ATTN,
    _TRITON_FLASHINFER,
    _FLASH_ATTN,
    _FLASHINFER,
    _TRITON_ATTN,
    _FLEX_ATTENTION,
    _ROCM_ATTN,
)


def ordinary_order(wanted: Wanted) -> tuple[Backend, ...]:
    """Backends of keys and values, in the order in which they are tried."""
    rest = (_TRITON_ATTN, _FLEX_ATTENTION)
    if wanted.is_rocm:  # platforms/rocm.py:531, without VLLM_ROCM_USE_AITER
        return (_ROCM_ATTN, _TRITON_ATTN)
    if wanted.capability[0] == BLACKWELL:
        first = (_TRITON_FLASHINFER,) if wanted.has_image_prefix else ()
        return (*first, _FLASHINFER, _FLASH_ATTN, *rest)
    composite = wanted.capability[0] == HOPPER and wanted.has_image_prefix
    first = (_TRITON_FLASH_ATTN,) if composite else ()
    return (*first, _FLASH_ATTN, _FLASHINFER, *rest)
