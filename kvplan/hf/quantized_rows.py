"""How a checkpoint stores its weights: quantisation_config to rows of one dtype each.

Which modules have which layout is decided by their names, as the checkpoint spells them; where the
file does not decide, the bytes are unknown and bounded at best.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from kvplan.hf.blocks.base import TOWERS, UNSURE, Tensor
from kvplan.hf.quantized_matrix import Dtypes, Layout, Row, UnknownBytesError
from kvplan.stored import StoredWeights


@dataclass(frozen=True)
class Found:
    """The rows of one part, or why and within which bounds they are not known."""

    sure: tuple[StoredWeights, ...] | None
    unknown: str | None
    least_bytes: int | None
    most_bytes: int | None
    at_most: tuple[StoredWeights, ...] | None = None
    """Where the bytes are not known but bounded: the rows at the upper bound."""


def is_linear(tensor: Tensor) -> bool:
    """Most methods quantise linear layers and nothing else."""
    return tensor.kind == "linear"


@dataclass(frozen=True)
class Scheme:
    """What a checkpoint does to its modules.

    ``layout`` says it for the name of a linear layer: None where it stays in ``dtype``. ``skips``
    has the layers on which a tensor stays as it is, ``by_layer`` answers for each layer by itself.
    Both may raise UnknownBytesError. ``refusal`` stands for a scheme that cannot be followed.
    """

    dtype: str
    layout: Callable[[Tensor], Layout | None] | None = None
    skips: Callable[[Tensor], frozenset[int]] | None = None
    by_layer: Callable[[Tensor, int], Layout | None] | None = None
    refusal: str | None = None
    cache_scales: int = 0
    """Layers that may keep two fp32 scales of the KV cache."""
    covers: Callable[[Tensor], bool] = is_linear
    """The tensors that the method speaks of."""
    default_rule: bool = False
    """Towers and head follow a rule of the method where no list speaks of them."""
    adds: tuple[Tensor, ...] = ()
    """Copies that it stores of what the model has once: a tied head."""
    assumes: str | None = None
    """What is not the file's own word."""


def rows(tensors: Iterable[Tensor], scheme: Scheme) -> Found:
    """The rows of one part: equal dtype and meaning together."""
    tally: dict[tuple[Dtypes, str], int] = {}
    try:
        for tensor in tensors:
            for row in _of_tensor(tensor, scheme):
                key = (row.dtypes, row.what)
                tally[key] = tally.get(key, 0) + row.elements
    except UnknownBytesError as error:
        return Found(None, error.reason, None, None)
    part = next(iter(tensors)).part if isinstance(tensors, list) else ""
    if part == "attention" and scheme.cache_scales:
        tally[("", "fp32"), "scales of the KV cache"] = 2 * scheme.cache_scales
    return _found(part, [Row(dtypes, n, what) for (dtypes, what), n in tally.items() if n])


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
    if not scheme.covers(tensor):
        return [Row(own, tensor.elements, _what(tensor))]
    if scheme.refusal is not None:
        raise UnknownBytesError(scheme.refusal)
    if scheme.by_layer is not None:
        return _by_layer(tensor, scheme, own)
    layout = scheme.layout(tensor) if scheme.layout else None
    if layout is None:
        return [Row(own, tensor.elements, _what(tensor))]
    kept = len(scheme.skips(tensor)) if scheme.skips else 0
    unspoken = tensor.part in TOWERS and kept < tensor.times
    if not scheme.default_rule and (unspoken or (tensor.part == "lm_head" and not kept)):
        raise UnknownBytesError("the list of what is not quantised does not speak of it")
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
    try:
        stored = layout.rows(out, into)
    except UnknownBytesError as error:
        raise UnknownBytesError(f"{tensor.name}: {error.reason}") from None
    return [Row(row.dtypes, row.elements * matrices, row.what) for row in stored]
