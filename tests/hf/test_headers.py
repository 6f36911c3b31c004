"""The header of one safetensors file: read exactly, or refused in one clear line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from kvplan.errors import SpecError
from kvplan.hf.headers import DTYPES, MAX_HEADER_BYTES, StoredTensor, read_header
from kvplan.stored import WEIGHT_BITS
from tests.hf.safetensors_files import BITS, entries, size_bytes, write, write_raw

ONE = {"w": ("F32", (2, 3))}


def refused(path: Path) -> str:
    with pytest.raises(SpecError) as caught:
        read_header(path)
    message = caught.value.message
    assert "\n" not in message
    assert message.isprintable()
    assert message.startswith(str(path))
    return message


def test_names_dtypes_and_shapes_are_read_and_no_data(tmp_path: Path) -> None:
    tensors = {"a.weight": ("BF16", (3, 5)), "scalar": ("F32", ()), "empty": ("I64", (0, 7))}
    header = read_header(write(tmp_path / "x.safetensors", tensors))
    assert header.tensors == (
        StoredTensor("a.weight", "bf16", (3, 5)),
        StoredTensor("scalar", "fp32", ()),
        StoredTensor("empty", "int64", (0, 7)),
    )
    assert [tensor.size_bytes for tensor in header.tensors] == [30, 4, 0]


@pytest.mark.parametrize("dtype", BITS)
def test_every_dtype_of_the_format_has_its_bits(tmp_path: Path, dtype: str) -> None:
    header = read_header(write(tmp_path / "x.safetensors", {"w": (dtype, (4, 2))}))
    assert header.tensors[0].size_bytes == BITS[dtype]
    assert WEIGHT_BITS[DTYPES[dtype]] == BITS[dtype]
    assert set(DTYPES) == set(BITS)


def test_a_header_may_be_padded_with_spaces(tmp_path: Path) -> None:
    header = json.dumps(entries(ONE)).encode() + b" " * 7
    assert len(read_header(write_raw(tmp_path / "x.safetensors", header, 24)).tensors) == 1


@pytest.mark.parametrize("content", [b"", b"\x08\0\0", (5).to_bytes(8, "little") + b"{}"])
def test_a_truncated_header(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    assert "truncated" in refused(path)


def test_truncated_data_and_data_too_many(tmp_path: Path) -> None:
    header = json.dumps(entries(ONE)).encode()
    short = write_raw(tmp_path / "short.safetensors", header, 23)
    assert "truncated: its tensors take 24 bytes, and 23 are there" in refused(short)
    long = write_raw(tmp_path / "long.safetensors", header, 26)
    assert "2 bytes after its last tensor" in refused(long)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"", "not a safetensors file"),
        (b"[]", "not a safetensors file"),
        (b"<!doctype html>", "not a safetensors file"),
        (b"{", "not JSON"),
        (b'{"w": NaN}', "not a JSON object"),
        (b'{"w": Infinity}', "not a JSON object"),
        (b'{"\xff": 1}', "not UTF-8"),
        (b'{"w": {}, "w": {}}', "given twice"),
        (b"{" + b'"a":{' * 100_000 + b"}" * 100_001, "nested too deeply"),
        (b'{"w": {"dtype": "F32", "shape": [' + b"9" * 5_000 + b"]}}", "not JSON"),
    ],
)
def test_what_is_not_a_header(tmp_path: Path, header: bytes, reason: str) -> None:
    assert reason in refused(write_raw(tmp_path / "x.safetensors", header, 0))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dtype": "F33"}, "'F33' is not a known dtype"),
        ({"dtype": None}, "null is not a known dtype"),
        ({"dtype": ["F32"]}, "a list of 1 is not a known dtype"),
        ({"shape": 6}, "its shape is 6"),
        ({"shape": None}, "its shape is"),
        ({"shape": [2, -3]}, "its shape is"),
        ({"shape": [2, 3.0]}, "its shape is"),
        ({"shape": [True, 6]}, "its shape is"),
        ({"shape": [1 << 63, 6]}, "its shape is"),
        ({"shape": [1] * 65 + [6]}, "its shape is"),
        ({"shape": [1 << 62] * 60}, "its shape is a list of 60"),
        ({"shape": [2, 4]}, "F32 of shape [2, 4] takes 32 bytes, not 24"),
        ({"dtype": "F4", "shape": [3]}, "do not end with a byte"),
        ({"data_offsets": [0]}, "its data_offsets are a list of 1"),
        ({"data_offsets": [-24, 0]}, "its data_offsets are"),
        ({"data_offsets": [24, 0]}, "takes 24 bytes, not -24"),
        ({"data_offsets": [0.0, 24]}, "its data_offsets are"),
        ({"data_offsets": None}, "its data_offsets are"),
        ({"data_offsets": [8, 32]}, "begins at byte 8 of the data"),
    ],
)
def test_an_entry_that_contradicts_itself(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    header = entries(ONE)
    header["w"].update(changes)
    message = refused(write_raw(tmp_path / "x.safetensors", json.dumps(header).encode(), 24))
    assert reason in message
    assert len(message) < len(str(tmp_path)) + 300


@pytest.mark.parametrize("second", [(8, 32), (32, 56)])
def test_tensors_that_overlap_or_leave_a_gap(tmp_path: Path, second: tuple[int, int]) -> None:
    header = entries({**ONE, "v": ("F32", (6,))})
    header["v"]["data_offsets"] = second
    message = refused(write_raw(tmp_path / "x.safetensors", json.dumps(header).encode(), 56))
    assert "and the one before it ends at 24" in message


def test_a_header_longer_than_the_format_allows(tmp_path: Path) -> None:
    length = MAX_HEADER_BYTES + 1
    path = write_raw(tmp_path / "x.safetensors", b"{}", length, length=length)
    assert "100,000,001 bytes long, more than 100,000,000" in refused(path)
    huge = write_raw(tmp_path / "huge.safetensors", b"{}", 100, length=(1 << 64) - 1)
    assert "truncated, or not a safetensors file" in refused(huge)


def test_a_name_that_no_terminal_can_show(tmp_path: Path) -> None:
    header = entries({"w\x1b[31m\ud800\n" * 50: ("F32", (6,))})
    next(value for key, value in header.items() if key.startswith("w"))["dtype"] = "?"
    refused(write_raw(tmp_path / "x.safetensors", json.dumps(header).encode(), 24))


def test_a_folder_and_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path)
    path = write(tmp_path / "x.safetensors", ONE)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    assert "cannot be read" in refused(path)


def test_sizes_of_the_writer_are_the_formats_own() -> None:
    assert size_bytes("F4", (2, 8)) == 8
    assert size_bytes("F6_E2M3", (4,)) == 3
