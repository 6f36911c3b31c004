"""safetensors files written by hand: eight bytes of length, JSON, and data that nobody reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

BITS = {
    "F64": 64,
    "F32": 32,
    "F16": 16,
    "BF16": 16,
    "C64": 64,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "F8_E8M0": 8,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F4": 4,
    "I64": 64,
    "I32": 32,
    "I16": 16,
    "I8": 8,
    "U64": 64,
    "U32": 32,
    "U16": 16,
    "U8": 8,
    "BOOL": 8,
}
"""Bits of an element, from the format's own description."""

Tensors = Mapping[str, tuple[str, tuple[int, ...]]]
"""Dtype, as the format spells it, and shape of every tensor."""


def size_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    return prod(shape) * BITS[dtype] // 8


def entries(tensors: Tensors) -> dict[str, Any]:
    """The header's JSON: one tensor after the other, as the format has it."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (dtype, shape) in tensors.items():
        begin, end = end, end + size_bytes(dtype, shape)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    return header


def write_raw(path: Path, header: bytes, data_bytes: int, length: int | None = None) -> Path:
    """A file with this header, right or wrong; its data are a hole in the file."""
    with path.open("wb") as file:
        file.write((len(header) if length is None else length).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + data_bytes)
    return path


def write(path: Path, tensors: Tensors) -> Path:
    header = json.dumps(entries(tensors)).encode()
    return write_raw(path, header, sum(size_bytes(*tensor) for tensor in tensors.values()))


def write_index(folder: Path, weight_map: Any, name: str = "model.safetensors.index.json") -> None:
    text = weight_map if isinstance(weight_map, str) else json.dumps({"weight_map": weight_map})
    (folder / name).write_text(text)
