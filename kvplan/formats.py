"""How elements are packed: a quantisation is a row in a table.

A row of ``width`` elements takes ``width x bits`` and one scale for each ``scale_every`` elements
(or one a row), rounded up to whole bytes, or to ``align_bytes``.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from kvplan.errors import RefusedError, UsageError, nearest
from kvplan.units import ceil_div


@dataclass(frozen=True)
class Packing:
    """Bits of one element and of the scales that go with it."""

    bits: int
    scale_bits: int = 0
    scale_every: int | None = None
    align_bytes: int = 1
    width: int | None = None
    """The only width for which this layout is defined; None for any."""
    whole_blocks: bool = False
    """The width has to be a multiple of ``scale_every``."""

    def row_bytes(self, width: int) -> int:
        """Bytes of one row of ``width`` elements, scales and padding included."""
        bits = width * self.bits + self.scales(width) * self.scale_bits
        return ceil_div(bits, 8 * self.align_bytes) * self.align_bytes

    def scales(self, width: int) -> int:
        """Scales that a row of ``width`` elements carries."""
        if not self.scale_bits:
            return 0
        return ceil_div(width, self.scale_every) if self.scale_every else 1

    def describe(self, width: int) -> str:
        """A row of ``width`` elements in a formula: ``64·2 B``, ``512·1 B + 4·4 B scale``."""
        row = f"{width:,}·{_bits(self.bits)}"
        if self.scales(width):
            row += f" + {self.scales(width)}·{_bits(self.scale_bits)} scale"
        bits = width * self.bits + self.scales(width) * self.scale_bits
        padding_bits = 8 * self.row_bytes(width) - bits
        return f"{row} + {_bits(padding_bits)} padding" if padding_bits else row


def _bits(bits: int) -> str:
    return f"{bits} bit" if bits % 8 else f"{bits // 8} B"


@dataclass(frozen=True)
class CacheFormat:
    """A KV cache dtype: how each role of slot is packed.

    ``default`` packs the roles that ``roles`` does not name; None where the layout is defined for
    its own roles only. ``source`` says where the layout comes from.
    """

    name: str
    default: Packing | None
    source: str
    roles: Mapping[str, Packing] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    plain: str | None = None
    """For a layout made for latents: the format of the same width for keys and values."""
    ggml: bool = False
    """One of llama.cpp's own types, which no other engine has."""
    together: tuple[str, ...] = ()
    """Roles that one record holds side by side: a cache with the first has to have them all."""

    @property
    def for_keys_and_values(self) -> str:
        """Name of the format in which ordinary attention would be kept beside this one."""
        return self.plain or self.name

    def check_record(self, roles: Collection[str]) -> None:
        """Raises RefusedError where one entry's tensors do not make this layout's whole record."""
        if not self.together or self.together[0] not in roles:
            return
        missing = [role for role in self.together if role not in roles]
        if missing:
            record, lacks = " and ".join(self.together), " or ".join(missing)
            raise RefusedError(
                f"{self.name} is one record of {record.replace('_', ' ')}, and this model keeps "
                f"no {lacks.replace('_', ' ')}",
                f"keep its latent in {self.for_keys_and_values} or bf16",
            )

    def packing(self, role: str, width: int) -> Packing:
        """How a row of ``width`` elements of ``role`` is packed.

        Raises RefusedError where this format has no layout for such a row.
        """
        packing = self.roles.get(role, self.default)
        if packing is None:
            raise RefusedError(
                f"{self.name} has no layout for the {role.replace('_', ' ')} of this model",
                f"it is defined for: {', '.join(self.roles)}",
            )
        if packing.width not in (None, width):
            raise RefusedError(
                f"{self.name} is defined for a {role.replace('_', ' ')} of {packing.width} "
                f"elements, not {width}"
            )
        if packing.whole_blocks and packing.scale_every and width % packing.scale_every:
            raise RefusedError(
                f"{self.name} packs blocks of {packing.scale_every} elements, and a "
                f"{role.replace('_', ' ')} of {width} is not a whole number of them"
            )
        return packing


def _ggml(name: str, block_bytes: int) -> CacheFormat:
    """A llama.cpp type that packs 32 elements into ``block_bytes``; one block scale included."""
    bits = {34: 8, 24: 5, 22: 5, 20: 4, 18: 4}[block_bytes]
    packing = Packing(bits, block_bytes * 8 - 32 * bits, 32, whole_blocks=True)
    return CacheFormat(name, packing, "llama.cpp ggml-common.h, block of 32", ggml=True)


_FP8 = Packing(8)
_FP4_BLOCK16 = Packing(4, scale_bits=8, scale_every=16, whole_blocks=True)
_VLLM_DTYPES = "vLLM 0.33.0 utils/torch_utils.py"
_PER_HEAD = "vLLM 0.33.0 v1/attention/backends/triton_attn.py:308: an fp32 scale a head and token"

_RECORD = ("latent", "rope_key")

_ROWS = (
    CacheFormat("bf16", Packing(16), _VLLM_DTYPES, aliases=("bfloat16",)),
    CacheFormat("fp16", Packing(16), _VLLM_DTYPES, aliases=("float16", "half", "f16")),
    CacheFormat("fp32", Packing(32), _VLLM_DTYPES, aliases=("float32", "float", "f32")),
    CacheFormat("fp8", _FP8, f"{_VLLM_DTYPES}: one scale a tensor, none in the cache"),
    CacheFormat("fp8_e4m3", _FP8, f"{_VLLM_DTYPES}: one scale a tensor, none in the cache"),
    CacheFormat("fp8_e5m2", _FP8, f"{_VLLM_DTYPES}: no scale"),
    CacheFormat("int8_per_token_head", Packing(8, scale_bits=32), _PER_HEAD),
    CacheFormat("fp8_per_token_head", Packing(8, scale_bits=32), _PER_HEAD),
    CacheFormat("int4_per_token_head", Packing(4, scale_bits=32), _PER_HEAD),
    CacheFormat("nvfp4", _FP4_BLOCK16, "vLLM 0.33.0 backends/flashinfer.py:558: fp8 scale per 16"),
    CacheFormat(
        "mxfp8",
        Packing(8, scale_bits=8, scale_every=32, whole_blocks=True),
        "OCP microscaling formats 1.0: e8m0 scale per 32; SGLang 0.5.23 pool_configurator.py:526",
    ),
    CacheFormat(
        "fp8_ds_mla",
        None,
        "FlashMLA 9241ae3e README and sparse_decode.h: V3.2 656 B = 512 fp8 + 4 fp32 scales "
        "+ 64 bf16; V4 584 B = 448 fp8 + 7 scales + 1 pad + 64 bf16",
        roles={
            "latent": Packing(8, scale_bits=32, scale_every=128, width=512),
            "shared_kv": Packing(8, scale_bits=8, scale_every=64, align_bytes=8, width=448),
            "rope_key": Packing(16, width=64),
        },
        plain="fp8",
        together=_RECORD,
    ),
    CacheFormat(
        "nvfp4_ds_mla",
        None,
        "vLLM 0.33.0 attention/mla_attention.py:1386: 352 B = 512 fp4 + 32 fp8 scales + 64 fp8",
        roles={
            "latent": Packing(4, scale_bits=8, scale_every=16, width=512),
            "rope_key": Packing(8, width=64),
        },
        plain="nvfp4",
        together=_RECORD,
    ),
    _ggml("q8_0", 34),
    _ggml("q5_1", 24),
    _ggml("q5_0", 22),
    _ggml("q4_1", 20),
    _ggml("q4_0", 18),
    _ggml("iq4_nl", 18),
)

FORMATS: dict[str, CacheFormat] = {row.name: row for row in _ROWS}
"""Every KV cache dtype by the name that ``--kv-cache-dtype`` takes (``auto`` apart)."""

_INDEX_ROWS = (
    CacheFormat(
        "dsa_index",
        Packing(8, scale_bits=32, scale_every=128),
        "vLLM 0.33.0 models/deepseek_v2.py:658, 731: fp8 and an fp32 scale per 128, 132 B a key",
    ),
    CacheFormat(
        "mxfp4",
        Packing(4, scale_bits=8, scale_every=32, whole_blocks=True),
        "vLLM 0.33.0 models/deepseek_v4/attention.py:1021: fp4 and an e8m0 scale per 32, 68 B a "
        "key (indexer_kv_dtype mxfp4)",
    ),
)

INDEX_FORMATS: dict[str, CacheFormat] = {row.name: row for row in _INDEX_ROWS}
"""How index keys alone are stored, beside a cache of any KV dtype."""

_BY_NAME = {alias: row for row in _ROWS for alias in (row.name, *row.aliases)}


def cache_format(name: str) -> CacheFormat:
    """The format of this name or alias. Raises UsageError for any other."""
    known = _BY_NAME.get(name.lower())
    if known is None:
        near = nearest(name.lower(), _BY_NAME, 2)
        hint = f"did you mean {' or '.join(near)}?" if near else "kvplan list formats shows them"
        raise UsageError(f"no KV cache dtype is called {name!r}", hint)
    return known
