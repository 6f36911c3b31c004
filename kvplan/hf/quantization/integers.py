"""Whole numbers of other packers: torchao, HQQ, EETQ, BitNet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kvplan.hf.config import Config, shown
from kvplan.hf.quantization.base import MAX_GROUP, Question, all_but, all_but_listed
from kvplan.hf.quantized_matrix import (
    SCALES,
    SHAPES,
    ZEROS,
    Grouped,
    Layout,
    Row,
    Scaled,
    UnknownBytesError,
)
from kvplan.hf.quantized_rows import Scheme
from kvplan.units import ceil_div

_WORD, _SHAPE = 4, 16
"""Bytes of an int32, and of two int64."""


def torchao(question: Question) -> Scheme:
    """Torchao's tensors as transformers 5.24.0 saves them: _weight_qdata, _scale, _zero_point.

    Checked against checkpoints of torchao 0.18.0; int4 by its Int4Tensor (workflows/int4).
    """
    section = question.section
    if section.raw.get("include_input_output_embeddings") or section.raw.get(
        "untie_embedding_weights"
    ):
        return question.refused("torchao of embeddings: not counted")
    if any(tensor.part == "routed_experts" for tensor in question.tensors):
        return question.refused("torchao of a model with experts: not counted")
    if isinstance(section.raw.get("quant_type"), str):
        # transformers before 4.53: torchao's pickled tensors of that day.
        return question.refused(f"torchao {shown(section.raw['quant_type'])} by name: not counted")
    types = section.section("quant_type")
    kind = types.section("default") if types is not None and set(types.raw) == {"default"} else None
    if kind is None:
        return question.refused("torchao without one quant_type for all modules")
    layout = _torchao_layout(kind, question.plain.dtype)
    if layout is None:
        name, version = kind.raw.get("_type"), kind.raw.get("_version")
        return question.refused(f"torchao {shown(name)} of version {shown(version)}: not counted")
    return all_but(question, layout, question.listed("modules_to_not_convert"))


def _torchao_layout(kind: Config, dtype: str) -> Layout | None:
    name, data = kind.raw.get("_type"), kind.section("_data")
    if data is None or kind.raw.get("_version") != 2:  # noqa: PLR2004 - version 1 is pickled, not safetensors
        return None
    by_row = _granularity(data) == "PerRow"
    if name in ("Int8WeightOnlyConfig", "Int8DynamicActivationInt8WeightConfig"):
        plain = data.raw.get("group_size") is None and by_row
        return Scaled("int8", (1, 0), ("fp32",), SCALES, zeros=("int8",)) if plain else None
    if name in ("Float8WeightOnlyConfig", "Float8DynamicActivationFloat8WeightConfig"):
        block = {"PerRow": (1, 0), "PerTensor": (0, 0)}.get(str(_granularity(data)))
        return Scaled("fp8", block, ("fp32",), SCALES) if block else None
    size = data.maybe("group_size", most=MAX_GROUP) or 128
    packing = data.raw.get("int4_packing_format")
    plain = packing is None or (isinstance(packing, dict) and packing.get("_data") == "PLAIN")
    if name == "Int4WeightOnlyConfig" and plain:
        return Grouped(bits=4, group=size, scale=(dtype,), zeros="numbers")
    return None


def _granularity(data: Config) -> Any:
    inner = data.raw.get("granularity")
    first = inner[-1] if isinstance(inner, list) and inner else inner
    return first.get("_type") if isinstance(first, dict) else None


@dataclass(frozen=True, kw_only=True)
class _Hqq(Layout):
    """W_q packed, scale and zero for each group, and what describes them as tensors of bytes.

    hqq 0.2.8 core/quantize.py (HQQLinear.state_dict): nbits, group_size, axis as int32, shape, the
    names "4bit_u8", "torch.uint8" and "torch.bfloat16" as text, and nine flags.
    """

    bits: int
    group: int
    dtype: str

    def rows(self, out: int, into: int) -> list[Row]:
        elements, group = out * into, self.group or into
        if elements % group:
            raise UnknownBytesError(f"{out} x {into} is not a multiple of {group}")
        groups = elements // group
        stored = [Row((f"int{self.bits}",), elements, "weight")]
        if self.bits == 3:  # noqa: PLR2004 - ten of them in an int32, by rows of the group
            spare = 32 * ceil_div(groups, 10) * group - 3 * elements
            stored.append(Row(("int1",), spare, SHAPES))
        name = {"bf16": 14, "fp16": 13, "fp32": 13}[self.dtype]
        return [
            *stored,
            Row((self.dtype,), groups, SCALES),
            Row((self.dtype,), groups, ZEROS),
            Row(("uint8",), 3 * _WORD + _SHAPE + 7 + 11 + name + 9, SHAPES),
        ]


_HQQ_NESTED = ("scale_quant_params", "zero_quant_params", "offload_meta")


def hqq(question: Question) -> Scheme:
    """HQQ with one figure for all modules; transformers leaves the head alone."""
    section = question.section
    outer = section.section("quant_config")
    inner = outer.section("weight_quant_params") if outer is not None else None
    if outer is None or inner is None or set(outer.raw) - {"weight_quant_params", *_HQQ_NESTED}:
        return question.refused("HQQ without weight_quant_params for all modules")
    if any(outer.raw.get(key) for key in _HQQ_NESTED):
        return question.refused("HQQ with quantised scales: not counted")
    bits, group = inner.maybe("nbits", most=8), inner.maybe("group_size", most=MAX_GROUP)
    if bits not in (1, 2, 3, 4, 8) or inner.raw.get("view_as_float"):
        return question.refused("HQQ without nbits of 1, 2, 3, 4 or 8")
    if bits == 3 and inner.raw.get("axis") != 1:  # noqa: PLR2004 - ten in a word, by rows of the group
        return question.refused("HQQ of 3 bits along another axis than 1: not counted")
    if any(tensor.part == "routed_experts" for tensor in question.tensors):
        return question.refused("HQQ of a model with experts: not counted")
    layout = _Hqq(bits=bits, group=group or 0, dtype=question.plain.dtype)
    return all_but_listed(question, layout, "skip_modules")


def eetq(question: Question) -> Scheme:
    """int8 with an fp16 scale a row (transformers 5.24.0 integrations/eetq.py:74)."""
    if question.section.word("weights") not in (None, "int8"):
        return question.refused("EETQ of other weights than int8")
    layout = Scaled("int8", (1, 0), ("fp16",), SCALES)
    return all_but_listed(question, layout, "modules_to_not_convert")


def bitnet(question: Question) -> Scheme:
    """Ternary weights, four in a byte, and one scale (integrations/bitnet.py:140).

    ``autobitlinear`` with ``online`` quantises at run time: those files hold 16 bits.
    """
    section = question.section
    auto = section.word("linear_class") == "autobitlinear"
    if auto and section.word("quantization_mode") != "offline":
        return question.plain
    scale = ((question.plain.dtype,), 1, SCALES)
    layout = Scaled("int2", scalars=(scale,))
    return all_but_listed(question, layout, "modules_to_not_convert")
