"""How a checkpoint stores its weights: quantisation_config to rows of one dtype each.

A layout is a row of data. Which modules have it is decided by their names, as the checkpoint
spells them; where the file does not decide, the bytes are unknown and bounded at best.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kvplan.hf.blocks.base import TOWERS, UNSURE, Tensor
from kvplan.stored import WEIGHT_BITS, StoredWeights
from kvplan.units import ceil_div

Dtypes = tuple[str, ...]
"""The possible dtypes, smallest first: more than one where the file does not tell."""


@dataclass(frozen=True)
class Layout:
    """How one quantised matrix is stored.

    ``block`` is rows and columns under one scale, 0 for all of them; ``scalars`` are numbers kept
    once a matrix, with their dtype and what they are.
    """

    dtype: str
    block: tuple[int, int] | None = None
    scale: Dtypes = ()
    what: str = "scale"
    scalars: tuple[tuple[Dtypes, int, str], ...] = ()
    even: bool = False
    """The columns have to be a multiple of the block's."""


def fp8_blocks(rows: int, columns: int, scale: Dtypes) -> Layout:
    """fp8 with a scale a block, the last block of each side cut off (DeepSeek-V3)."""
    return Layout("fp8", (rows, columns), scale, f"block scale {rows}x{columns}")


def fp8_tensor(scale: Dtypes, *, activations: bool) -> Layout:
    """fp8 with a scale a matrix, and one for its input where that is static."""
    scalars = [(scale, 1, "scale per tensor")]
    if activations:
        scalars.append((scale, 1, "activation scale per tensor"))
    return Layout("fp8", scalars=tuple(scalars))


def nvfp4(*, activations: bool) -> Layout:
    """fp4 with an fp8 scale for 16 and a global fp32 one (ModelOpt, compressed-tensors)."""
    scalars = [(("fp32",), 1, "global scale")]
    if activations:
        scalars.append((("fp32",), 1, "activation scale"))
    return Layout("fp4", (1, 16), ("fp8",), "scale per 16", tuple(scalars), even=True)


MXFP4 = Layout("fp4", (1, 32), ("e8m0",), "scale per 32", even=True)


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
class Found:
    """The rows of one part, or why and within which bounds they are not known."""

    sure: tuple[StoredWeights, ...] | None
    unknown: str | None
    least_bytes: int | None
    most_bytes: int | None
    at_most: tuple[StoredWeights, ...] | None = None
    """Where the bytes are not known but bounded: the rows at the upper bound."""


@dataclass(frozen=True)
class Scheme:
    """What a checkpoint does to its modules.

    ``layout`` says it for the name of a linear layer: None where it stays in ``dtype``. ``skips``
    has the layers on which a tensor stays as it is. ``refusal`` stands for a scheme that cannot be
    followed, ``extra`` for scalars that may be stored beside attention.
    """

    dtype: str
    layout: Callable[[Tensor], Layout | None] | None = None
    skips: Callable[[Tensor], frozenset[int]] | None = None
    by_layer: Callable[[Tensor, int], Layout | None] | None = None
    refusal: str | None = None
    cache_scales: int = 0
    """Layers that may keep two fp32 scales of the KV cache."""


def rows(tensors: Iterable[Tensor], scheme: Scheme) -> Found:
    """The rows of one part: equal dtype and meaning together."""
    tally: dict[tuple[Dtypes, str], int] = {}
    try:
        for tensor in tensors:
            for row in _of_tensor(tensor, scheme):
                key = (row.dtypes, row.what)
                tally[key] = tally.get(key, 0) + row.elements
    except _UnknownError as error:
        return Found(None, error.reason, None, None)
    part = next(iter(tensors)).part if isinstance(tensors, list) else ""
    if part == "attention" and scheme.cache_scales:
        tally[("", "fp32"), "scales of the KV cache"] = 2 * scheme.cache_scales
    return _found(part, [Row(dtypes, n, what) for (dtypes, what), n in tally.items() if n])


class _UnknownError(Exception):
    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _found(part: str, made: list[Row]) -> Found:
    least, most = (sum(row.size_bytes(place) for row in made) for place in (0, -1))
    unsure = [row for row in made if len(row.dtypes) > 1]
    stored = tuple(
        StoredWeights(
            dtype=row.dtypes[-1],  # type: ignore[arg-type]
            elements=row.elements,
            what=f"{part} {row.what}".strip(),
        )
        for row in made
    )
    if unsure and least != most:
        names = ", ".join(sorted({row.what or "weights" for row in unsure}))
        reason = f"the file does not tell the dtype of {names}: {least:,} to {most:,} B"
        return Found(None, reason, least, most, stored)
    return Found(stored, None, least, most)


def _of_tensor(tensor: Tensor, scheme: Scheme) -> list[Row]:
    own = _own_dtype(tensor, scheme.dtype)
    if tensor.kind != "linear":
        return [Row(own, tensor.elements, _what(tensor))]
    if scheme.refusal is not None:
        raise _UnknownError(scheme.refusal)
    if scheme.by_layer is not None:
        return _by_layer(tensor, scheme, own)
    layout = scheme.layout(tensor) if scheme.layout else None
    if layout is None:
        return [Row(own, tensor.elements, "")]
    kept = len(scheme.skips(tensor)) if scheme.skips else 0
    if tensor.part in TOWERS and kept < tensor.times:
        raise _UnknownError("the list of what is not quantised does not speak of it")
    if tensor.part == "lm_head" and not kept:
        raise _UnknownError("the list of what is not quantised does not speak of it")
    each = tensor.elements // tensor.times
    plain = [Row(own, each * kept, "")] if kept else []
    return plain + _quantised(tensor, layout, tensor.times - kept)


def _by_layer(tensor: Tensor, scheme: Scheme, own: Dtypes) -> list[Row]:
    each, made = tensor.elements // tensor.times, []
    counts: dict[Layout | None, int] = {}
    for layer in tensor.layers or (0,):
        layout = scheme.by_layer(tensor, layer) if scheme.by_layer else None
        counts[layout] = counts.get(layout, 0) + 1
    for found, times in counts.items():
        if found is None:
            made.append(Row(own, each * times, ""))
        else:
            made += _quantised(tensor, found, times)
    return made


def _own_dtype(tensor: Tensor, dtype: str) -> Dtypes:
    if tensor.dtype not in (None, UNSURE):
        return (str(tensor.dtype),)
    return (dtype, "fp32") if tensor.dtype == UNSURE and dtype != "fp32" else (dtype,)


def _what(tensor: Tensor) -> str:
    if tensor.dtype == UNSURE:
        return tensor.name.rsplit(".", maxsplit=1)[-1]
    return "buffer" if tensor.kind == "buffer" else ""


def _quantised(tensor: Tensor, layout: Layout, times: int) -> list[Row]:
    if not times:
        return []
    out, into = tensor.shape[0], tensor.shape[1]
    matrices = tensor.copies * times
    made = [Row((layout.dtype,), out * into * matrices, "weight")]
    if layout.block is not None:
        height, width = layout.block[0] or out, layout.block[1] or into
        if layout.even and into % width:
            raise _UnknownError(f"{tensor.name}: {into} columns are not a multiple of {width}")
        scales = ceil_div(out, height) * ceil_div(into, width) * matrices
        made.append(Row(layout.scale, scales, layout.what))
    return made + [Row(dtypes, n * matrices, what) for dtypes, n, what in layout.scalars]
