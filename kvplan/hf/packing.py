"""What a checkpoint's tensors hold: parameters, one or several to an element, or scales of them.

Tensors of one module belong together: where one of them is quantised, the others are its scales,
zero points and shapes. Bytes are the file's own either way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kvplan.hf.headers import StoredTensor
from kvplan.stored import WEIGHT_BITS, WeightDtype

_SUFFIX = re.compile(
    r"(\.(weight|qweight|w_q|trellis|codes|bias|biases|scales?|qzeros|zeros|zero_points?|g_idx|perm|"
    r"suh|svh|mcg|mul1|SCB|absmax|input_scale|output_scale|activation_scale|[kvq]_scale|"
    r"\w*global_scale)|(?<=_proj)_(blocks|packed|bias|scales?|zero_point|input_scale|shape|"
    r"global_scale)|_weight)([._].*)?$"
)
PLAIN = ("fp64", "fp32", "bf16", "fp16")
"""Dtypes of weights that nobody quantised."""

_ONE_EACH = (
    "fp8",
    "fp8_e5m2",
    "fp8_e4m3fnuz",
    "fp8_e5m2fnuz",
    "int8",
    "fp6_e2m3",
    "fp6_e3m2",
    "fp4",
)
_CONTAINERS = ("int32", "uint32")
_CACHE_SCALE = re.compile(r"\.[kvq]_scale$")
# Buffers in the classes of transformers 5.24.0; the biases that balance experts are parameters in
# some families (MiniMax).
_BUFFER = re.compile(
    r"\.(e_score_correction_bias|expert_bias|ffn\.gate\.bias|layer_scalar|std_(scale|bias))$"
)
# Bytes of two fp4 numbers each under one scale: 16 numbers of NVFP4, 32 of MXFP4.
_FP4_BYTES_A_SCALE = (8, 16)
_BITS_KEYS = ("bits", "w_bit", "num_bits", "wbits")
_NOT_OF_WEIGHTS = ("input_activations", "output_activations", "kv_cache_scheme")
_HALVES: dict[int, WeightDtype] = {4: "int4", 8: "int8"}


@dataclass(frozen=True)
class Content:
    """Elements of one dtype, and ``what`` they are where they are no parameters one by one."""

    dtype: WeightDtype
    elements: int
    what: str | None = None


def module_name(name: str) -> str:
    """A tensor's name without what it is to its module: ``.weight``, ``_scale_inv``, ``.bias``."""
    return _SUFFIX.sub("", name)


def contents(
    tensors: Iterable[StoredTensor], bits: int | None
) -> Iterator[tuple[StoredTensor, Content]]:
    """Every tensor and what it holds; ``bits`` of a weight in a container of 32, where known."""
    modules: dict[str, dict[str, StoredTensor]] = {}
    for tensor in tensors:
        modules.setdefault(module_name(tensor.name), {})[tensor.name] = tensor
    for module in modules.values():
        quantised = _quantised(module)
        for tensor in module.values():
            if tensor is quantised:
                yield tensor, _weights(tensor, module, bits)
            else:
                yield tensor, _beside(tensor, alone=quantised is None)


def _quantised(module: Mapping[str, StoredTensor]) -> StoredTensor | None:
    """The tensor of a module that is its weights in fewer bits, or packed; None where none is."""
    if any(name.endswith(".weight") and t.dtype in PLAIN for name, t in module.items()):
        return None
    weights = [
        tensor
        for name, tensor in module.items()
        if tensor.dtype not in PLAIN and (len(module) > 1 or _is_weight(name, tensor))
    ]
    return max(weights, key=lambda tensor: tensor.size_bytes, default=None)


def _is_weight(name: str, tensor: StoredTensor) -> bool:
    """A tensor that stands alone and holds weights: tables of whole numbers do not."""
    return tensor.dtype in _ONE_EACH or name.endswith(("weight", "packed", "blocks", "trellis"))


def _weights(tensor: StoredTensor, module: Mapping[str, StoredTensor], bits: int | None) -> Content:
    if tensor.dtype in ("int8", "uint8") and _holds_fp4(tensor, module):
        return Content("fp4", tensor.elements * 2)
    if tensor.dtype in _ONE_EACH:
        return Content(tensor.dtype, tensor.elements)
    if tensor.dtype in _CONTAINERS and bits in _HALVES:
        dtype = _HALVES[bits]
        return Content(dtype, tensor.size_bytes * 8 // WEIGHT_BITS[dtype])
    return Content(tensor.dtype, tensor.elements, "packed")


def _holds_fp4(tensor: StoredTensor, module: Mapping[str, StoredTensor]) -> bool:
    """Whether each byte is two fp4 numbers: so many of them share a scale of one byte."""
    return any(
        other.dtype in ("fp8", "e8m0", "uint8")
        and other is not tensor
        and tensor.elements in [other.elements * size for size in _FP4_BYTES_A_SCALE]
        for other in module.values()
    )


def _beside(tensor: StoredTensor, *, alone: bool) -> Content:
    name = tensor.name
    if alone and tensor.dtype in PLAIN:
        what = "buffers" if _BUFFER.search(name) else None
        what = "scales" if _CACHE_SCALE.search(name) else what
        return Content(tensor.dtype, tensor.elements, what)
    if alone:
        return Content(tensor.dtype, tensor.elements, "buffers")
    if name.endswith("bias") and tensor.dtype in PLAIN:
        return Content(tensor.dtype, tensor.elements)
    words = {"zero": "zero points", "biases": "zero points", "g_idx": "order", "shape": "shapes"}
    what = next((what for word, what in words.items() if word in name), "scales")
    return Content(tensor.dtype, tensor.elements, what)


def packed_bits(quantization: Any) -> int | None:
    """Bits of a weight, where this section of a config.json names one figure for all of them."""
    figures = set(_bits(quantization, depth=0)) - {16, 32}
    return figures.pop() if len(figures) == 1 else None


_MAX_DEPTH = 8


def _bits(section: Any, depth: int) -> Iterator[int]:
    if not isinstance(section, dict) or depth > _MAX_DEPTH:
        return
    for key, value in section.items():
        if key in _BITS_KEYS and type(value) is int:
            yield value
        elif key not in _NOT_OF_WEIGHTS:
            yield from _bits(value, depth + 1)
