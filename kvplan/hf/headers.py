"""The header of one safetensors file: the name, dtype and shape of every tensor in it.

The first eight bytes of a file are the length of the JSON that follows; the tensors' bytes come
after it and are never read. What safetensors 0.8.0 itself would not load is not weighed either.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from kvplan.errors import SpecError
from kvplan.hf.config import printable, shown
from kvplan.json_text import parse_json
from kvplan.stored import WEIGHT_BITS, WeightDtype

DTYPES: dict[str, WeightDtype] = {
    "F64": "fp64",
    "F32": "fp32",
    "F16": "fp16",
    "BF16": "bf16",
    "F8_E4M3": "fp8",
    "F8_E5M2": "fp8_e5m2",
    "F8_E4M3FNUZ": "fp8_e4m3fnuz",
    "F8_E5M2FNUZ": "fp8_e5m2fnuz",
    "F8_E8M0": "e8m0",
    "F6_E2M3": "fp6_e2m3",
    "F6_E3M2": "fp6_e3m2",
    "F4": "fp4",
    "C64": "complex64",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}
"""Every dtype of safetensors 0.8.0, as a spec names it."""

MAX_HEADER_BYTES = 100_000_000
"""safetensors 0.8.0 refuses a longer header."""

_LENGTH_BYTES = 8
_MAX_DIMENSIONS = 64
_MAX_INTEGER = 1 << 63


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a checkpoint; ``shape`` counts elements of ``dtype``, packed or not."""

    name: str
    dtype: WeightDtype
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Numbers of its dtype that it holds; a scalar has the shape () and one of them."""
        return prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes that it takes in its file."""
        return self.elements * WEIGHT_BITS[self.dtype] // 8


@dataclass(frozen=True)
class Header:
    """The tensors of one file, and how long its header is."""

    tensors: tuple[StoredTensor, ...]
    header_bytes: int


def read_header(path: Path, most_bytes: int = MAX_HEADER_BYTES) -> Header:
    """The header of this safetensors file. Raises SpecError naming the file and what is wrong."""
    shown_path = printable(str(path))
    try:
        text, data_bytes = _header_text(path, shown_path, most_bytes)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "its name is not possible"
        raise SpecError(f"{shown_path}: cannot be read: {reason}") from None
    entries = parse_json(_decoded(text, shown_path), shown_path)
    if not isinstance(entries, dict):
        raise SpecError(f"{shown_path}: its header is {shown(entries)}, not a JSON object")
    entries.pop("__metadata__", None)
    tensors = {name: stored_tensor(name, entry, shown_path) for name, entry in entries.items()}
    _check_data(shown_path, data_bytes, tensors, entries)
    return Header(tuple(tensors.values()), len(text))


def _header_text(path: Path, shown_path: str, most_bytes: int) -> tuple[bytes, int]:
    """The JSON, and the bytes of data that the file has after it."""
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if size_bytes < _LENGTH_BYTES:
            raise SpecError(f"{shown_path}: truncated: {size_bytes} bytes are not a header")
        if length > max(most_bytes, size_bytes):  # eight letters of a text are such a number
            raise SpecError(
                f"{shown_path}: truncated, or not a safetensors file: its header is to be longer "
                f"than the file, which has {size_bytes:,} bytes"
            )
        if length > size_bytes - _LENGTH_BYTES:
            raise SpecError(
                f"{shown_path}: truncated, or not a safetensors file: its header is to be "
                f"{length:,} bytes long, and the file has {size_bytes:,}"
            )
        if length > most_bytes:
            raise SpecError(
                f"{shown_path}: its header is {length:,} bytes long, more than {most_bytes:,}"
            )
        return file.read(length), size_bytes - _LENGTH_BYTES - length


def _decoded(text: bytes, shown_path: str) -> str:
    if not text.startswith(b"{"):
        raise SpecError(f"{shown_path}: not a safetensors file: its header is not a JSON object")
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise SpecError(f"{shown_path}: its header is not UTF-8") from None


def stored_tensor(name: str, entry: Any, file: str) -> StoredTensor:
    """The tensor that this entry of a header describes; ``file`` is for what an error says."""
    if not isinstance(entry, dict):
        raise SpecError(f"{file}: tensor {shown(name)} is {shown(entry)}, not a JSON object")
    dtype, shape = entry.get("dtype"), _whole_numbers(entry.get("shape"))
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise SpecError(f"{file}: tensor {shown(name)}: {shown(dtype)} is not a known dtype")
    if shape is None or len(shape) > _MAX_DIMENSIONS or prod(shape) >= _MAX_INTEGER:
        raise SpecError(f"{file}: tensor {shown(name)}: its shape is {shown(entry.get('shape'))}")
    tensor = StoredTensor(name, DTYPES[dtype], tuple(shape))
    if tensor.elements * WEIGHT_BITS[tensor.dtype] % 8:
        raise SpecError(
            f"{file}: tensor {shown(name)}: {tensor.elements:,} elements of {dtype} do not end "
            "with a byte"
        )
    return tensor


def _whole_numbers(values: Any) -> list[int] | None:
    fitting = isinstance(values, list) and all(
        type(value) is int and 0 <= value < _MAX_INTEGER for value in values
    )
    return values if fitting else None


def _check_data(
    file: str, data_bytes: int, tensors: dict[str, StoredTensor], entries: dict[str, Any]
) -> None:
    """Tensors lie one after the other without gaps, as the format has it, and fill the file."""
    ranges = sorted((*_data_range(tensors[name], entries[name], file), name) for name in entries)
    end = 0
    for begin, after, name in ranges:
        if begin != end:
            raise SpecError(
                f"{file}: tensor {shown(name)} begins at byte {begin:,} of the data, and the one "
                f"before it ends at {end:,}"
            )
        end = after
    if end > data_bytes:
        raise SpecError(
            f"{file}: truncated: its tensors take {end:,} bytes, and {data_bytes:,} are there"
        )
    if end < data_bytes:
        raise SpecError(f"{file}: has {data_bytes - end:,} bytes after its last tensor")


def _data_range(tensor: StoredTensor, entry: dict[str, Any], file: str) -> tuple[int, int]:
    offsets = _whole_numbers(entry.get("data_offsets"))
    if offsets is None or len(offsets) != len(("begin", "end")):
        raise SpecError(
            f"{file}: tensor {shown(tensor.name)}: its data_offsets are "
            f"{shown(entry.get('data_offsets'))}"
        )
    begin, end = offsets
    if end - begin != tensor.size_bytes:
        raise SpecError(
            f"{file}: tensor {shown(tensor.name)}: {entry['dtype']} of shape "
            f"{list(tensor.shape)[:8]} takes {tensor.size_bytes:,} bytes, not {end - begin:,}"
        )
    return begin, end
