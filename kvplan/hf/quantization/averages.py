"""EXL2 and EXL3: so many bits a weight on average, whole bits by matrix inside.

The mixture follows from a measurement that the file does not hold: bytes are an approximation, and
every answer says so.
"""

from __future__ import annotations

from dataclasses import replace

from kvplan.hf.blocks.base import Tensor
from kvplan.hf.quantization.base import Question, without_towers
from kvplan.hf.quantized_matrix import Average, Layout
from kvplan.hf.quantized_rows import Scheme, is_linear

_LEAST, _MOST = 1.0, 8.0


def exl3(question: Question) -> Scheme:
    """Trellis of ``bits`` a weight, an fp16 sign and scale a row and column, codebook marks.

    exllamav3 1.6.5 modules/quant/exl3.py: trellis int16 (in/16, out/16, 16 K), suh, svh, mcg, mul1.
    A tied head is stored once more, quantised (architecture/llama.py:120, ``alt_key``).
    """
    scheme = _average(question, "EXL3", sides=("fp16",), scalars=1)
    if scheme.refusal is not None or _has_head(question):
        return scheme
    embedding = next((t for t in question.tensors if t.part == "embedding"), None)
    if embedding is None:
        return question.refused("EXL3 of a model without an embedding")
    copy = Tensor("lm_head", "lm_head", embedding.shape, "buffer")
    return replace(scheme, adds=(copy,), covers=lambda t: t is copy or is_linear(t))


def exl2(question: Question) -> Scheme:
    """``bits`` a weight with its scales in them (exllamav2 0.3.2 conversion/optimize.py)."""
    if not _has_head(question):
        return question.refused("EXL2 of a tied head, which it stores by itself: not counted")
    return _average(question, "EXL2", sides=(), scalars=0)


def _has_head(question: Question) -> bool:
    return any(tensor.part == "lm_head" for tensor in question.tensors)


def _average(question: Question, name: str, *, sides: tuple[str, ...], scalars: int) -> Scheme:
    bits, head = _bits(question, "bits"), _bits(question, "head_bits")
    if bits is None:
        return question.refused(f"{name} without bits of {_LEAST:g} to {_MOST:g}")
    if head is None:
        return question.refused(f"{name} without head_bits")
    body, of_head = Average(bits, sides, scalars), Average(head, sides, scalars)

    def of(tensor: Tensor) -> Layout | None:
        return of_head if tensor.part == "lm_head" else body

    said = (
        f"weights are an approximation: {name} mixes whole bits by matrix to {bits:g} a weight on "
        "average, and which matrix has how many is not in config.json"
    )
    scheme = without_towers(replace(question.plain, layout=of))
    return replace(scheme, default_rule=True, assumes=said)


def _bits(question: Question, key: str) -> float | None:
    value = question.section.raw.get(key)
    question.section.read.add(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if _LEAST <= value <= _MOST else None
