"""GPTQ, AWQ and AutoRound: linear layers of the decoder in a few bits, in groups of columns.

GPTQModel (nn_modules/qlinear/__init__.py, GPTQQuantLinear): qweight int32 (in*bits/32, out),
qzeros int32 (groups, out*bits/32), scales fp16 (groups, out), g_idx int32 (in).
AutoAWQ 0.2.9 (awq/modules/linear/gemm.py): the same without g_idx, packed along the rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from kvplan.hf import module_names as names
from kvplan.hf.blocks.base import TOWERS, Tensor
from kvplan.hf.config import Config, shown
from kvplan.hf.quantization.base import (
    MAX_GROUP,
    Question,
    chosen,
    is_fused,
    without_towers,
)
from kvplan.hf.quantization.rules import Rule, Rules
from kvplan.hf.quantized_matrix import Doubtful, Gemv, Grouped, Layout, UnknownBytesError
from kvplan.hf.quantized_rows import Scheme, is_linear

_FP16 = ("fp16",)
# What quantisers of a decoder list for every family: its projections, MLPs and experts.
_SURE_PARTS = ("attention", "attention_down", "dense_mlp", "routed_experts", "shared_experts")
_NO_LIST = "{}: no list says whether it is quantised"
_GPTQ_FORMATS = (None, "gptq", "gptq_v2")
_PATTERN = re.compile(r"[*+?^$|\\\[(]")


@dataclass(frozen=True)
class _Width:
    """Bits of a weight and columns of a group; 16 bits and more are not quantised."""

    bits: int
    group: int
    """0: all columns."""


def _width(section: Config, defaults: _Width | None = None) -> _Width | None:
    bits = section.maybe("bits", "w_bit", "wbits", most=32)
    group = section.maybe("group_size", "q_group_size", least=-1, most=MAX_GROUP)
    if defaults is not None:
        return _Width(bits or defaults.bits, defaults.group if group is None else max(group, 0))
    return None if bits is None or group is None or group == 0 else _Width(bits, max(group, 0))


def gptq(question: Question) -> Scheme:
    """AutoGPTQ, GPTQModel and optimum: ``dynamic`` rules, a flag for the head."""
    section = question.section
    width = _width(section)
    if width is None or width.bits not in range(2, 9):
        return question.refused("GPTQ without bits of 2 to 8 and group_size")
    form = section.word("checkpoint_format", "format")
    if form not in _GPTQ_FORMATS or section.raw.get("is_marlin_format"):
        return question.refused(f"GPTQ format {shown(str(form or 'marlin'))}: not counted")
    if section.word("pack_dtype") not in (None, "int32") or section.raw.get("adapter"):
        return question.refused("GPTQ in other words than int32, or with an adapter")
    rules = _dynamic(section)
    if isinstance(rules, str):
        return question.refused(rules)
    known = _quantizer(section).startswith("gptqmodel") or section.has("provider")
    layouts = _gptq_layouts(question, spare=not known)
    return _decoder(question, width, layouts, rules, head=section.flag("lm_head"))


def _gptq_layouts(question: Question, *, spare: bool) -> Callable[[Tensor, _Width], Layout]:
    """AutoGPTQ before 0.8 (#602) gave every module a bias: Qwen2.5's GPTQ files have them."""
    biased = question.biased()

    def layout(tensor: Tensor, width: _Width) -> Layout:
        return Grouped(
            bits=width.bits,
            group=width.group,
            scale=_FP16,
            zeros="words",
            order=True,
            even=False,
            spare_bias=spare and tensor.name not in biased,
        )

    return layout


def _quantizer(section: Config) -> str:
    meta = section.raw.get("meta")
    named = meta.get("quantizer") if isinstance(meta, dict) else None
    first = named[0] if isinstance(named, list) and named else named
    return first.lower() if isinstance(first, str) else ""


def _dynamic(section: Config) -> Rules | str:
    """GPTQModel's ``dynamic``: ``-:`` leaves modules alone, ``+:`` or nothing changes figures.

    gptqmodel/quantization/config.py, _resolve_dynamic_override: the first that matches.
    """
    dynamic = section.section("dynamic")
    patterns: list[Rule] = []
    for key in dynamic.raw if dynamic is not None else ():
        text = key[2:] if key[:2] in ("-:", "+:") else key
        found = names.patterns([f"re:{text}"])
        if found.problem is not None:
            return f"dynamic: {found.problem}"
        own = None if key[:2] == "-:" or dynamic is None else dynamic.section(key)
        patterns.append(Rule(text, found.regular[0], own))
    return Rules({}, patterns)


def _decoder(
    question: Question,
    width: _Width,
    layouts: Callable[[Tensor, _Width], Layout],
    rules: Rules,
    *,
    head: bool,
) -> Scheme:
    """The decoder's linear layers but those that a list or rule leaves out."""
    listed = question.listed("modules_to_not_convert")
    only = _only(question.section)
    left = names.patterns(listed)
    problem = left.problem or names.lost(left, question.tensors) or rules.problem(question.tensors)
    if problem is not None:
        return question.refused(f"{question.section_name}: {problem}")

    def by_layer(tensor: Tensor, layer: int) -> Layout | None:
        if (tensor.part == "lm_head" and not head) or layer in names.skipped(left, tensor):
            return None
        ruled, figures = rules.of(tensor, layer)
        if ruled and figures is None:
            return None
        if only and tensor.part != "lm_head" and not _named_only(only, tensor):
            return None
        if is_fused(tensor) or (tensor.part not in (*_SURE_PARTS, "lm_head") and not only):
            raise UnknownBytesError(_NO_LIST.format(tensor.name))
        own = width if figures is None else _width(figures, width)
        return None if own is None or own.bits >= 16 else layouts(tensor, own)  # noqa: PLR2004 - bits of a plain weight

    return without_towers(replace(question.plain, by_layer=by_layer))


def _only(section: Config) -> list[str]:
    """``modules_in_block_to_quantize``: names within a layer, in lists of those done together."""
    value = section.raw.get("modules_in_block_to_quantize")
    section.read.add("modules_in_block_to_quantize")
    flat = [
        name for group in value or () for name in (group if isinstance(group, list) else [group])
    ]
    if not all(isinstance(name, str) for name in flat):
        section.refuse("modules_in_block_to_quantize has to be lists of names")
    return flat


def _named_only(only: list[str], tensor: Tensor) -> bool:
    name = tensor.name.replace(".experts.*.", ".experts.0.")
    return any(name.endswith(f".{part}") for part in only)


def awq(question: Question) -> Scheme:
    """AutoAWQ's and GPTQModel's: everything linear in the decoder's layers but the named modules.

    AutoAWQ takes a router for a linear layer like any other where no list names it
    (awq/quantize/quantizer.py:183): both are counted.
    """
    section = question.section
    width = _width(section)
    version = str(section.word("version", "format", "checkpoint_format") or "gemm").lower()
    if width is None or width.bits != 4:  # noqa: PLR2004 - AutoAWQ has no other
        return question.refused("AWQ without 4 bits and group_size")
    layouts: dict[str, Layout] = {
        "gemm": Grouped(bits=width.bits, group=width.group, scale=_FP16, zeros="words"),
        "gemv": Gemv(width.group),
        "gemv_fast": Gemv(width.group, fast=True),
    }
    if version not in layouts:
        return question.refused(f"AWQ version {shown(version)}: not counted")
    listed = question.listed("modules_to_not_convert")
    unclear = _unclear(listed, question.tensors)
    if unclear is not None:
        return question.refused(f"modules_to_not_convert: {shown(unclear)} may mean other modules")
    return _awq_scheme(question, layouts[version], listed)


def _awq_scheme(question: Question, layout: Layout, listed: list[str]) -> Scheme:
    left = _left_by_awq(listed)

    def of(tensor: Tensor) -> Layout | None:
        if tensor.part == "lm_head":
            return None
        if tensor.part == "router" or not is_linear(tensor):
            return Doubtful(layout, question.plain.dtype)
        unsure = is_fused(tensor) or tensor.part not in _SURE_PARTS
        if unsure and len(left(tensor)) < tensor.times:
            raise UnknownBytesError(_NO_LIST.format(tensor.name))
        return layout

    scheme = without_towers(chosen(question, of, listed))
    if scheme.refusal is not None:
        return scheme
    return replace(scheme, covers=_is_linear_or_router, skips=left)


def _left_by_awq(listed: list[str]) -> Callable[[Tensor], frozenset[int]]:
    """Layers that stay: a name is looked for anywhere in a module's, here by whole parts of it."""
    found = names.patterns(listed)

    def left(tensor: Tensor) -> frozenset[int]:
        inside = any(f".{name}." in f".{tensor.name}." for name in listed)
        return frozenset(tensor.layers or (0,)) if inside else names.skipped(found, tensor)

    return left


def _is_linear_or_router(tensor: Tensor) -> bool:
    """Routers of a few experts, and gates of one row, do not fill a word: they stay."""
    router = tensor.part == "router" and tensor.kind == "other" and len(tensor.shape) > 1
    return is_linear(tensor) or (router and tensor.shape[0] % 8 == 0 and tensor.dtype is None)


def _unclear(listed: list[str], tensors: list[Tensor]) -> str | None:
    """AutoAWQ looks for the name anywhere in a module's, transformers for whole modules."""
    left = _left_by_awq(listed)
    for name in listed:
        for tensor in tensors:
            if tensor.part in TOWERS or not is_linear(tensor) or name not in tensor.name:
                continue
            if not left(tensor):
                return name
    return None


def auto_round(question: Question) -> Scheme:
    """AutoRound in the packing of GPTQ or AWQ, with figures of single layers in ``extra_config``.

    auto_round 0.16.1 export/export_to_autoround/export.py.
    """
    section = question.section
    packing = str(section.word("packing_format", "backend") or "").lower()
    form = packing.rpartition(":")[2]
    if form not in ("gptq", "auto_gptq", "awq", "auto_awq"):
        return question.refused(f"AutoRound's packing_format {shown(packing)}: not counted")
    width = _width(section)
    if (
        width is None
        or width.bits not in range(2, 9)
        or section.word("data_type") not in (None, "int")
    ):
        return question.refused("AutoRound without bits, group_size and data_type int")
    rules = _extra_rules(section)
    if isinstance(rules, str):
        return question.refused(rules)
    if _names_towers(section):
        return question.refused("AutoRound of blocks outside the language model")
    layouts = _auto_round_layouts(awq=form.endswith("awq"))
    head = section.flag("quant_lm_head") or "lm_head" in rules.named
    return _decoder(question, width, layouts, rules, head=head)


def _auto_round_layouts(*, awq: bool) -> Callable[[Tensor, _Width], Layout]:
    def layout(tensor: Tensor, width: _Width) -> Layout:
        del tensor
        bits, group = width.bits, width.group
        return Grouped(bits=bits, group=group, scale=_FP16, zeros="words", order=False, even=awq)

    return layout


def _extra_rules(section: Config) -> Rules | str:
    """``extra_config``: a layer's name, or a pattern, to its own figures."""
    extra = section.section("extra_config")
    rules = Rules({}, [])
    for key in extra.raw if extra is not None else ():
        own = extra.section(key) if extra is not None else None
        if own is None:
            return f"extra_config: {shown(key)} has no figures"
        if not _PATTERN.search(key):
            rules.named[key] = own
            continue
        found = names.patterns([f"re:{key}"])
        if found.problem is not None:
            return f"extra_config: {found.problem}"
        rules.patterns.append(Rule(key, found.regular[0], own))
    return rules


def _names_towers(section: Config) -> bool:
    text = str(section.value("block_name_to_quantize", "to_quant_block_names")[1] or "")
    return bool(re.search(r"vis|audio|merger", text))
