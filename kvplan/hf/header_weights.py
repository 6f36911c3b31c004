"""Weights of a checkpoint by its safetensors headers, in place of a count from config.json.

Bytes are exact for any architecture and any quantisation. Parameters are, where each is an
element of its own; of packed ones only a count from config.json tells how many there are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from kvplan.hf.blocks.base import TOWERS
from kvplan.hf.checkpoint import Checkpoint, few
from kvplan.hf.config import Config
from kvplan.hf.headers import StoredTensor
from kvplan.hf.packing import PLAIN, contents, packed_bits
from kvplan.hf.quantization import SECTIONS
from kvplan.hf.tensor_parts import (
    Omission,
    checkpoint_names,
    is_second_head,
    omission,
    part,
)
from kvplan.stored import Parameters, Part, StoredWeights, WeightDtype

Facts = dict[str, Any]
"""A spec's keys about weights: weights, parameters, not_counted and those about experts."""

_EXPERT = re.compile(r"\bexperts\.(\d{1,6})\.")
_EXPERT_MATRIX = re.compile(
    r"\bexperts\.\d{1,6}\.(?:(?P<up>gate_proj|up_proj|w1|w3)|down_proj|w2)\.weight$"
)


@dataclass
class HeaderWeights:
    """The elements of a checkpoint by part, dtype and meaning (``StoredWeights.what``)."""

    elements: Counter[tuple[Part, WeightDtype, str | None]] = field(default_factory=Counter)
    omitted_bytes: Counter[Omission] = field(default_factory=Counter)
    """What is in the files and in no row."""
    unknown: list[StoredTensor] = field(default_factory=list)
    """Tensors whose names say nothing; they are in part ``other``."""
    routed_experts: int | None = None
    expert_intermediate_size: int | None = None

    @property
    def rows(self) -> tuple[StoredWeights, ...]:
        """One row for each part, dtype and meaning, in the order of a spec's parts."""
        order = get_args(Part)
        keys = sorted(
            (key for key, count in self.elements.items() if count),
            key=lambda key: (order.index(key[0]), key[2] or "", -self.elements[key], key[1]),
        )
        return tuple(
            StoredWeights(
                part=part, dtype=dtype, elements=self.elements[part, dtype, what], what=what
            )
            for part, dtype, what in keys
        )

    @property
    def size_bytes(self) -> int:
        """Bytes of all rows."""
        return sum(row.size_bytes for row in self.rows)

    @property
    def packed(self) -> bool:
        """Whether some elements hold several parameters, nobody knows how many."""
        return any(what == "packed" for _, _, what in self.elements)

    def parameters(self, parts: Iterable[Part]) -> int:
        """Elements of these parts that are parameters, those of packed ones as they are stored."""
        wanted = set(parts)
        return sum(
            count
            for (part, _, what), count in self.elements.items()
            if part in wanted and what in (None, "packed")
        )


def header_weights(
    tensors: Iterable[StoredTensor], layers: int, bits: int | None = None, *, tied: bool = False
) -> HeaderWeights:
    """The weights of a model of so many layers whose checkpoint holds these tensors.

    ``bits`` of a weight that is packed into integers of 32, where the config names one figure;
    ``tied`` where output head and embedding are one matrix.
    """
    tensors = tuple(tensors)
    names = checkpoint_names(tensors, layers, tied=tied)
    weights = HeaderWeights(expert_intermediate_size=_expert_width(tensors))
    for tensor, content in contents(tensors, bits):
        if reason := omission(tensor, names):
            weights.omitted_bytes[reason] += tensor.size_bytes
            continue
        named = part(tensor, names)
        if named is None:
            weights.unknown.append(tensor)
        what = "buffers" if is_second_head(tensor, names) else content.what
        weights.elements[named or "other", content.dtype, what] += content.elements
        if named == "routed_experts":
            weights.routed_experts = max(weights.routed_experts or 0, _experts(tensor)) or None
    return weights


def _experts(tensor: StoredTensor) -> int:
    """Experts that this tensor's name or, where all lie in one tensor, its shape tells of."""
    numbered = _EXPERT.search(tensor.name)
    if numbered:
        return int(numbered[1]) + 1
    fused = len(tensor.shape) >= len(("expert", "row", "column"))
    return tensor.shape[0] if fused else 0


def _expert_width(tensors: Iterable[StoredTensor]) -> int | None:
    """Rows of an expert's first matrices, where the last one has as many columns.

    None where they differ (packed along a side, or experts of several widths), and where the
    experts lie in one tensor, whose sides no name tells apart.
    """
    rows: set[int] = set()
    columns: set[int] = set()
    for tensor in tensors:
        matrix = _EXPERT_MATRIX.search(tensor.name)
        if matrix and len(tensor.shape) == len(("row", "column")):
            out, into = tensor.shape
            if matrix["up"]:
                rows.add(out)
            else:
                columns.add(into)
    return rows.pop() if len(rows) == 1 and rows == columns else None


def checkpoint_weights(
    checkpoint: Checkpoint,
    levels: Iterable[Config],
    layers: int,
    counted: Facts,
    doubts: tuple[str, ...],
) -> tuple[Facts, tuple[str, ...]]:
    """The spec's keys about weights, and what every answer that rests on them has to say.

    ``levels`` are the objects of config.json that may name ties and quantisation; ``counted`` is
    what a count from config.json gives for the same keys, and ``doubts`` what it leaves open.
    """
    if not checkpoint.tensors:
        return counted, (*checkpoint.notes, *doubts)
    raws = [level.raw for level in levels]
    weights = header_weights(checkpoint.tensors, layers, _bits(raws), tied=_is_tied(raws))
    parameters, notes = _parameters(weights, counted)
    facts: Facts = {
        "weights": weights.rows,
        "parameters": parameters,
        "routed_experts": weights.routed_experts or counted.get("routed_experts"),
        "lora": counted.get("lora", ()),
        "expert_intermediate_size": weights.expert_intermediate_size
        or counted.get("expert_intermediate_size"),
    }
    exact = not doubts and not counted.get("not_counted")
    disagreement = _disagreement(weights, counted.get("weights") if exact else None)
    return facts, (*checkpoint.notes, *_notes(weights), *disagreement, *notes)


def _bits(raws: Iterable[Mapping[str, Any]]) -> int | None:
    return packed_bits({key: raw[key] for raw in raws for key in SECTIONS if key in raw})


def _is_tied(raws: Iterable[Mapping[str, Any]]) -> bool:
    return {raw["tie_word_embeddings"] for raw in raws if "tie_word_embeddings" in raw} == {True}


def _parameters(
    weights: HeaderWeights, counted: Facts
) -> tuple[Parameters | None, tuple[str, ...]]:
    """Parameters by the files; as config.json means them where these agree or are packed."""
    known: Parameters | None = counted.get("parameters")
    if weights.packed:
        unknown = "parameters are not known: the files pack several of them into one element"
        return known, () if known else (unknown,)
    total, towers = weights.parameters(get_args(Part)), weights.parameters(TOWERS)
    if known is not None and known.total in _totals(weights, total):
        return known, ()
    if not total:
        return None, ()
    active = _active(weights, counted, total - towers)
    differ = f"the safetensors files hold {total:,} parameters, config.json means "
    notes = (f"{differ}{known.total:,}: the files are taken",) if known and known.total else ()
    language = total - towers if towers else None
    return Parameters(total=total, active=active, language=language), notes


def _totals(weights: HeaderWeights, total: int) -> tuple[int, int]:
    """The total, and the same with buffers that are parameters in some families."""
    buffers = sum(
        count
        for (_, dtype, what), count in weights.elements.items()
        if what == "buffers" and dtype in PLAIN
    )
    return total, total + buffers


def _active(weights: HeaderWeights, counted: Facts, language: int) -> int | None:
    """Of the language model's parameters, all but the experts that a token does not choose.

    No header tells how many it chooses; config.json does, where it has the same experts.
    """
    known, routed = counted.get("parameters"), weights.parameters(("routed_experts",))
    if not routed:
        return None if weights.unknown else language
    same = routed == sum(
        row.elements
        for row in counted.get("weights", ())
        if row.part == "routed_experts" and row.what is None
    )
    if known is None or known.active is None or not same:
        return None
    return max(0, language - (known.of_language - known.active)) or None


def _disagreement(weights: HeaderWeights, counted: Iterable[StoredWeights] | None) -> Iterator[str]:
    counted_bytes = sum(row.size_bytes for row in counted or ())
    stored_bytes = weights.size_bytes + sum(weights.omitted_bytes.values())
    if counted_bytes and counted_bytes not in (weights.size_bytes, stored_bytes):
        yield (
            f"the safetensors files hold {weights.size_bytes:,} B of weights, a count from "
            f"config.json gives {counted_bytes:,} B: the files are taken"
        )


def _notes(weights: HeaderWeights) -> Iterator[str]:
    for reason, size_bytes in weights.omitted_bytes.items():
        yield f"{size_bytes:,} B of the safetensors files are left out: {reason}"
    if weights.unknown:
        size_bytes = sum(tensor.size_bytes for tensor in weights.unknown)
        names = few(tensor.name for tensor in weights.unknown)
        yield (
            f"{size_bytes:,} B of weights have names that say nothing here ({names}): taken as "
            "copied to every GPU"
        )
