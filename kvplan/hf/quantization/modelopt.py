"""NVIDIA ModelOpt: one algorithm and an exclude list, or a list of what is quantised and how.

The tensors are those that ModelOpt 0.47.0 exports (torch/export/quant_utils.py).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kvplan.hf import module_names as names
from kvplan.hf.blocks.base import TOWERS, Tensor
from kvplan.hf.config import MAX_LAYERS, shown
from kvplan.hf.quantization.base import MAX_GROUP, Question, all_but, cache_scales
from kvplan.hf.quantized_matrix import (
    MXFP4,
    MXFP8,
    Layout,
    Scaled,
    fp8_tensor,
    nvfp4,
)
from kvplan.hf.quantized_rows import Scheme


def modelopt(question: Question) -> Scheme:
    """What ``quant_algo`` does to the linear layers."""
    section = question.section
    word = str(section.word("quant_algo") or "").upper()
    plain = replace(question.plain, cache_scales=cache_scales(question))
    question = replace(question, plain=plain)
    if word == "MIXED_PRECISION":
        return _mixed(question)
    size = section.maybe("group_size", most=MAX_GROUP)
    layout = _layout(word, size, plain.dtype)
    if layout is None:
        return question.refused(f"quant_algo {shown(word)} is not counted")
    keys = ("exclude_modules", "ignore")
    if not any(key in section.raw for key in keys):
        return question.refused(f"quant_algo {word}, and no list of what is left out")
    if not _fits(layout, size):
        return question.refused(f"group_size is {size}, and {word} has another")
    listed = question.listed(*keys)
    if question.published.modelopt_base is not None:
        problem = "a ModelOpt file without the list of layers that this family's files have"
        return question.refused(problem)
    return all_but(question, layout, listed, head=True)


def _layout(word: str, size: int | None, dtype: str) -> Scaled | None:
    """The tensors of one quantised module.

    AWQ's scale for each column is folded into the norm before it where there is one.
    """
    fp32 = ("fp32",)
    inputs = ((fp32, 1, "activation scale"),)
    awq = replace(Scaled("int4", (1, size or 0), fp32, even=True), columns=("", dtype))
    known: dict[str, Scaled] = {
        "FP8": fp8_tensor(fp32, activations=True),
        "FP8_PER_CHANNEL_PER_TOKEN": Scaled("fp8", (1, 0), fp32),
        "FP8_PB_WO": Scaled("fp8", (128, 128), fp32),
        "MXFP8": MXFP8,
        "MXFP4": MXFP4,
        "W4A8_MXFP4_FP8": MXFP4,
        "W4A8_NVFP4_FP8": replace(nvfp4(activations=True), block=(1, 32)),
        "NVFP4": nvfp4(activations=True),
        "W4A16_NVFP4": nvfp4(activations=False),
        "NVFP4_AWQ": nvfp4(activations=True, columns=("", dtype)),
        "W4A16_AWQ": awq,
        "INT4_AWQ": awq,
        "W4A8_AWQ": replace(awq, scalars=(*inputs, (fp32, 1, "global scale"))),
        "W8A8_SQ_PER_CHANNEL": Scaled("int8", (1, 0), fp32, scalars=inputs, columns=(dtype,)),
        "W8A16": Scaled("int8", (1, 0), fp32),
    }
    unknown_group = size is None and known.get(word) in (awq, known["W4A8_AWQ"])
    return None if unknown_group else known.get(word)


def _mixed(question: Question) -> Scheme:
    listed = question.section.section("quantized_layers")
    if listed is None:
        return question.refused("MIXED_PRECISION without quantized_layers")
    if len(listed.raw) > 4 * MAX_LAYERS:
        question.section.refuse("quantized_layers is too long")
    found: dict[str, Layout] = {}
    for name, entry in listed.raw.items():
        algo = entry.get("quant_algo") if isinstance(entry, dict) else None
        layout = _listed_layout(algo, entry, question.plain.dtype)
        if layout is None:
            return question.refused(f"quantized_layers has {shown(algo)} for {shown(name)}")
        found[name] = layout
    return _from_list(question, found)


def _listed_layout(algo: Any, entry: Any, dtype: str) -> Layout | None:
    size = entry.get("group_size") if isinstance(entry, dict) else None
    if not isinstance(algo, str) or (size is not None and type(size) is not int):
        return None
    if size is not None and not 1 <= size <= MAX_GROUP:
        return None
    layout = _layout(algo.upper(), size, dtype)
    return layout if layout is not None and _fits(layout, size) else None


def _fits(layout: Scaled, size: int | None) -> bool:
    """Whether a group of this size is the layout's own; what has no groups may name one."""
    grouped = layout.block is not None and layout.block[0] == 1 and layout.block[1]
    return size is None or not grouped or layout.block == (1, size)


def _from_list(question: Question, listed: dict[str, Layout]) -> Scheme:
    known: set[str] = set()
    base = question.published.modelopt_base

    def one(tensor: Tensor, layer: int) -> Layout | None:
        for name in names.spellings_in_layer(tensor, layer):
            for key in (name, name.split(".experts.")[0] + ".experts"):
                if key in listed and (key == name or ".experts." in name):
                    known.add(key)
                    return listed[key]
        return None if tensor.part == "lm_head" else base

    for tensor in question.tensors:
        if tensor.kind == "linear" and tensor.part not in TOWERS:
            for layer in tensor.layers or (0,):
                one(tensor, layer)
    lost = [name for name in listed if name not in known and not names.OUTSIDE.search(name)]
    if lost:
        return question.refused(f"quantized_layers names {shown(lost[0])}, not known here")

    def by_layer(tensor: Tensor, layer: int) -> Layout | None:
        return None if tensor.part in TOWERS else one(tensor, layer)

    return replace(question.plain, by_layer=by_layer)
