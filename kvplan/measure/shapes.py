"""What one step of decoding reads and computes in each layer, on one GPU."""

from __future__ import annotations

from dataclasses import dataclass

from kvplan.calc import Line
from kvplan.errors import RefusedError, UsageError
from kvplan.kinds.full_attention import AttentionHeads
from kvplan.kinds.kv_shared import KVShared
from kvplan.kinds.mla import MLA
from kvplan.measure.layouts import cache_footprint
from kvplan.measure.question import CacheQuestion, Kernel

ATTENDED = ("bf16", "fp16")
"""Caches that attention is measured over; others are read by kernels of an engine's own."""
_ELEMENT_BYTES = 2  # of either

_KERNELS = {
    False: (Kernel.SDPA, Kernel.TRITON, Kernel.TORCH),
    True: (Kernel.FLASHMLA, Kernel.FLASHINFER, Kernel.GLUON, Kernel.TRITON, Kernel.TORCH),
}
"""Kernels for keys and values (False) and for latents (True), what an engine would use first.

Plain torch comes last and is for where nothing else works.
"""
_ON_CPU = (Kernel.SDPA, Kernel.TORCH)


@dataclass(frozen=True)
class AttentionShape:
    """Attention of one query token over one layer's cache, on one GPU.

    Widths are elements of one head. For MLA in absorbed form ``kv_heads`` is 1, the key is latent
    and rotary key (``key_width``), the value is the latent (``value_width``), and ``expanded`` are
    the widths of a head that the latent is expanded to: key without RoPE, RoPE, value.
    """

    label: str
    layers: int
    query_heads: int
    kv_heads: int
    key_width: int
    value_width: int
    entries: int
    scale: float
    dtype: str
    expanded: tuple[int, int, int] | None = None

    @property
    def is_latent(self) -> bool:
        """Whether the cache is one of MLA's latents."""
        return self.expanded is not None

    @property
    def bytes_per_sequence(self) -> int:
        """Cache bytes of one layer and sequence: what a step has to read."""
        width = self.key_width if self.is_latent else self.key_width + self.value_width
        return self.kv_heads * width * self.entries * _ELEMENT_BYTES

    @property
    def flops_per_sequence(self) -> int:
        """Multiplications and additions of one layer and sequence: scores, and their values."""
        return 2 * self.query_heads * (self.key_width + self.value_width) * self.entries


def attention_shapes(question: CacheQuestion) -> tuple[AttentionShape, ...]:
    """The attention of these caches, one shape for each different kind of layer.

    Raises RefusedError for caches over which attention is not measured.
    """
    cache = cache_footprint(question).own
    if cache.kv_cache_dtype not in ATTENDED:
        raise RefusedError(
            f"{cache.model}: attention is measured over bf16 and fp16 caches, "
            f"not {cache.kv_cache_dtype}",
            "leave --decode out, or ask for --kv-cache-dtype bf16",
        )
    return tuple(_shape(line, question, cache.kv_cache_dtype) for line in cache.lines)


def _shape(line: Line, question: CacheQuestion, dtype: str) -> AttentionShape:
    kind = line.kind
    if isinstance(kind, MLA):
        return _latent(kind, line, question, dtype)
    if isinstance(kind, AttentionHeads) and not isinstance(kind, KVShared) and line.slots:
        key, value = line.slots
        return AttentionShape(
            label=kind.tag(),
            layers=line.copies,
            query_heads=kind.num_attention_heads // question.tensor_parallel,
            kv_heads=key.heads,
            key_width=key.width,
            value_width=value.width,
            entries=line.entries,
            scale=key.width**-0.5,
            dtype=dtype,
        )
    raise RefusedError(
        f"{question.spec.name}: a decode step over {kind.tag()} is not measured",
        "leave --decode out: the memory of its caches is measured all the same",
    )


def _latent(kind: MLA, line: Line, question: CacheQuestion, dtype: str) -> AttentionShape:
    expanded = (kind.qk_nope_head_dim, kind.qk_rope_head_dim, kind.v_head_dim)
    return AttentionShape(
        label=kind.tag(),
        layers=line.copies,
        query_heads=kind.num_attention_heads // question.tensor_parallel,
        kv_heads=1,
        key_width=kind.kv_lora_rank + kind.qk_rope_head_dim,
        value_width=kind.kv_lora_rank,
        entries=line.entries,
        scale=(kind.qk_nope_head_dim + kind.qk_rope_head_dim) ** -0.5,
        dtype=dtype,
        expanded=expanded,
    )


def kernels(shape: AttentionShape, device: str) -> tuple[Kernel, ...]:
    """The kernels worth trying for a shape, on a device of this kind (``cuda``, ``cpu``)."""
    names = _KERNELS[shape.is_latent]
    return tuple(kernel for kernel in names if device != "cpu" or kernel in _ON_CPU)


def check_kernel(kernel: Kernel, shape: AttentionShape) -> None:
    """Raises UsageError where this kernel does not read such a cache."""
    names = _KERNELS[shape.is_latent]
    if kernel not in (Kernel.AUTO, *names):
        raise UsageError(
            f"--kernel {kernel.value} is not a kernel for {shape.label}",
            f"one of: {', '.join(names)}",
        )
