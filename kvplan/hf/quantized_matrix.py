"""How one quantised matrix is stored: its own elements, and what stands beside them.

A layout turns the (out, in) shape of a matrix into rows of one dtype each. Which matrices have it,
the scheme of the checkpoint says (``quantized_rows.Scheme``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from kvplan.stored import WEIGHT_BITS
from kvplan.units import ceil_div

Dtypes = tuple[str, ...]
"""The possible dtypes, smallest first: more than one where the file does not tell."""

SCALES, ZEROS, ORDER, SHAPES, BUFFERS = "scales", "zero points", "order", "shapes", "buffers"
"""What is stored beside the weights; ``order`` is the group of each column (GPTQ's g_idx)."""

_WORD_BITS = 32


class UnknownBytesError(Exception):
    """The file does not determine how these weights are stored; ``reason`` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Row:
    """Elements of one dtype, or of one of several; an empty dtype stands for nothing at all."""

    dtypes: Dtypes
    elements: int
    what: str

    def size_bytes(self, place: int) -> int:
        """Bytes at the smallest (0) or largest (-1) possible dtype."""
        dtype = self.dtypes[place]
        return ceil_div(self.elements * WEIGHT_BITS[dtype], 8) if dtype else 0


@dataclass(frozen=True)
class Layout:
    """How a matrix is stored."""

    def rows(self, out: int, into: int) -> list[Row]:
        """The rows of one matrix. Raises UnknownBytesError for a shape that it cannot have."""
        raise NotImplementedError


@dataclass(frozen=True)
class Scaled(Layout):
    """Elements of one dtype with scales.

    ``block`` is rows and columns under one scale, 0 for all of them; ``scalars`` are numbers kept
    once a matrix, with their dtype and what they are, ``columns`` numbers for each column.
    """

    dtype: str
    block: tuple[int, int] | None = None
    scale: Dtypes = ()
    what: str = SCALES
    scalars: tuple[tuple[Dtypes, int, str], ...] = ()
    even: bool = False
    """The columns have to be a multiple of the block's."""
    zeros: Dtypes = ()
    """Dtype of a zero point beside each scale."""
    columns: Dtypes = ()

    def rows(self, out: int, into: int) -> list[Row]:
        stored = [Row((self.dtype,), out * into, "weight")]
        if self.block is not None:
            height, width = self.block[0] or out, self.block[1] or into
            if self.even and into % width:
                raise UnknownBytesError(f"{into} columns are not a multiple of {width}")
            scales = ceil_div(out, height) * ceil_div(into, width)
            stored.append(Row(self.scale, scales, self.what))
            if self.zeros:
                stored.append(Row(self.zeros, scales, ZEROS))
        if self.columns:
            stored.append(Row(self.columns, into, SCALES))
        return stored + [Row(dtypes, n, what) for dtypes, n, what in self.scalars]


def fp8_blocks(rows: int, columns: int, scale: Dtypes) -> Scaled:
    """fp8 with a scale a block, the last block of each side cut off (DeepSeek-V3)."""
    return Scaled("fp8", (rows, columns), scale, f"block scale {rows}x{columns}")


def fp8_tensor(scale: Dtypes, *, activations: bool) -> Scaled:
    """fp8 with a scale a matrix, and one for its input where that is static."""
    scalars = [(scale, 1, "scale per tensor")]
    if activations:
        scalars.append((scale, 1, "activation scale per tensor"))
    return Scaled("fp8", scalars=tuple(scalars))


def nvfp4(*, activations: bool, columns: Dtypes = ()) -> Scaled:
    """fp4 with an fp8 scale for 16 and a global fp32 one (ModelOpt, compressed-tensors)."""
    scalars = [(("fp32",), 1, "global scale")]
    if activations:
        scalars.append((("fp32",), 1, "activation scale"))
    what = "scale per 16"
    return Scaled("fp4", (1, 16), ("fp8",), what, tuple(scalars), even=True, columns=columns)


MXFP4 = Scaled("fp4", (1, 32), ("e8m0",), "scale per 32", even=True)
MXFP8 = Scaled("fp8", (1, 32), ("e8m0",), "scale per 32", even=True)


@dataclass(frozen=True, kw_only=True)
class Grouped(Layout):
    """Whole numbers of few bits, packed into words, with a scale for each group of columns.

    ``group`` 0 is one group of all columns. Zero points are packed into int32 along the rows
    ("words"), or numbers of the scale's dtype ("numbers"), or not there.
    """

    bits: int
    group: int
    scale: Dtypes
    zeros: Literal["", "words", "numbers"] = ""
    order: bool = False
    """An int32 a column."""
    even: bool = True
    """The columns have to be a multiple of the group."""
    scalars: tuple[tuple[Dtypes, int, str], ...] = ()
    spare_bias: bool = False
    """There may be a bias of zeros that the model does not have."""

    def rows(self, out: int, into: int) -> list[Row]:
        group = self.group or into
        if self.even and into % group:
            raise UnknownBytesError(f"{into} columns are not a multiple of {group}")
        if into * self.bits % _WORD_BITS and out * self.bits % _WORD_BITS:
            raise UnknownBytesError(f"{out} x {into} of {self.bits} bits do not fill whole words")
        groups = ceil_div(into, group)
        stored = [
            Row((f"int{self.bits}",), out * into, "weight"),
            Row(self.scale, groups * out, SCALES),
        ]
        if self.zeros == "words":
            stored.append(Row(("int32",), groups * ceil_div(out * self.bits, _WORD_BITS), ZEROS))
        elif self.zeros == "numbers":
            stored.append(Row(self.scale, groups * out, ZEROS))
        if self.order:
            stored.append(Row(("int32",), into, ORDER))
        if self.spare_bias:
            stored.append(Row(("", "fp16"), out, BUFFERS))
        return stored + [Row(dtypes, n, what) for dtypes, n, what in self.scalars]


@dataclass(frozen=True)
class Gemv(Layout):
    """AutoAWQ's GEMV: 4 bits, groups padded until their zero points fill words.

    AutoAWQ 0.2.9 awq/modules/linear/gemv.py:12 (calculate_zeros_width); ``fast`` keeps zero points
    in fp16 as wide as the scales (gemv_fast.py).
    """

    group: int
    fast: bool = False

    def rows(self, out: int, into: int) -> list[Row]:
        group = self.group or into
        if into % group or out % 8 or (group not in {32, 64, into} and group < 128):  # noqa: PLR2004 - see above
            raise UnknownBytesError(f"{out} x {into} in groups of {group} have no GEMV layout")
        words = {64: 2, 32: 4}.get(group, 1)
        width = ceil_div(ceil_div(into // group, 8), words) * words
        zeros = (
            Row(("fp16",), out * width * 8, ZEROS)
            if self.fast
            else Row(("int32",), out * width, ZEROS)
        )
        scales = Row(("fp16",), out * width * 8, SCALES)
        return [Row(("int4",), out * into, "weight"), scales, zeros]


@dataclass(frozen=True)
class Codebook(Layout):
    """bitsandbytes' 4 bits: blocks of 64 elements, a table of 16, and a description in JSON.

    bitsandbytes 0.50.2 functional.py, QuantState.as_dict(packed=True); transformers leaves the
    block size at 64. ``nested`` quantises the blocks' scales again, in blocks of 256.
    """

    name: str
    """``nf4`` or ``fp4``."""
    nested: bool
    dtype: str
    """torch's name of the dtype that the matrix had."""

    def rows(self, out: int, into: int) -> list[Row]:
        elements = out * into
        blocks = ceil_div(elements, 64)
        text = (
            f'{{"quant_type": "{self.name}", "blocksize": 64, "dtype": "{self.dtype}", '
            f'"shape": [{out}, {into}]}}'
        )
        # An odd last element has a byte of its own.
        stored = [Row((self.name,), elements + elements % 2, "weight")]
        stored.append(Row(("fp32",), 16, SCALES))
        if not self.nested:
            return [*stored, Row(("fp32",), blocks, SCALES), Row(("uint8",), len(text), SCALES)]
        # The mean of the scales as Python prints a double: 3 to 24 characters.
        text += ', "nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.0'
        stored += [Row(("uint8",), blocks + len(text), SCALES), Row(("", "uint8"), 21, SCALES)]
        return [*stored, Row(("fp32",), ceil_div(blocks, 256) + 256, SCALES)]


@dataclass(frozen=True)
class Average(Layout):
    """So many bits a weight on average: whole bits of the two nearest sizes, mixed.

    ``sides`` is the dtype of a number for each row and each column (EXL3's suh and svh).
    """

    bits: float
    sides: Dtypes = ()
    scalars: int = 0
    """fp32 or int32 numbers a matrix."""

    def rows(self, out: int, into: int) -> list[Row]:
        low = math.floor(self.bits)
        upper = round(out * into * (self.bits - low))
        stored = [Row((f"int{low}",), out * into - upper, "weight")]
        if upper:
            stored.append(Row((f"int{low + 1}",), upper, "weight"))
        if self.sides:
            stored.append(Row(self.sides, out + into, SCALES))
        if self.scalars:
            stored.append(Row(("", "int32"), self.scalars, SCALES))
        return stored


@dataclass(frozen=True)
class Doubtful(Layout):
    """Quantised in some files and as it was in others: both count."""

    layout: Layout
    plain: str

    def rows(self, out: int, into: int) -> list[Row]:
        return [
            Row((*row.dtypes, self.plain), row.elements, row.what)
            if row.what == "weight"
            else Row(("", *filter(None, row.dtypes)), row.elements, row.what)
            for row in self.layout.rows(out, into)
        ]
