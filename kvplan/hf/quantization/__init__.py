"""From the quantisation that a checkpoint's files name to the scheme that its weights follow.

One file a lineage of methods. Where the file does not decide which modules are quantised, or how,
the scheme is a refusal; a key about quantisation that nothing here reads is one as well.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from kvplan.hf.blocks.base import Tensor
from kvplan.hf.config import Config, printable, shown
from kvplan.hf.quantization import floats, gptq, integers
from kvplan.hf.quantization.averages import exl2, exl3
from kvplan.hf.quantization.base import (
    PLAIN_FILES,
    Method,
    Published,
    Question,
    without_towers,
)
from kvplan.hf.quantization.bitsandbytes import bitsandbytes
from kvplan.hf.quantization.compressed_tensors import compressed_tensors
from kvplan.hf.quantization.mlx import FIGURES, mlx
from kvplan.hf.quantization.modelopt import modelopt
from kvplan.hf.quantization.quark import quark
from kvplan.hf.quantized_matrix import UnknownBytesError
from kvplan.hf.quantized_rows import Scheme

SECTIONS = ("quantization_config", "compression_config", "quantization")
"""Sections of a config.json that name what was done to its weights; ``quantization`` is MLX's."""

METHODS: dict[str, Method] = {
    "fp8": floats.fp8,
    "fbgemm_fp8": floats.fbgemm_fp8,
    "mxfp4": floats.mxfp4,
    "compressed-tensors": compressed_tensors,
    "modelopt": modelopt,
    "gptq": gptq.gptq,
    "awq": gptq.awq,
    "auto-round": gptq.auto_round,
    "intel/auto-round": gptq.auto_round,
    "bitsandbytes": bitsandbytes,
    "mlx": mlx,
    "exl2": exl2,
    "exl3": exl3,
    "torchao": integers.torchao,
    "hqq": integers.hqq,
    "eetq": integers.eetq,
    "bitnet": integers.bitnet,
    "quark": quark,
}
"""Every method whose bytes follow from its figures, by its ``quant_method``."""


_MAX_LEVELS = 1_000


def scheme(
    top: Config,
    text: Config,
    dtype: str,
    beside: Config | None,
    published: Published,
    tensors: list[Tensor],
) -> Scheme:
    """The scheme that this file and hf_quant_config.json (``beside``) name.

    ``dtype`` is that of what is not quantised. Raises RefusedError.
    """
    plain = Scheme(dtype)
    unread = _unread(top) or (_unread(text) if text is not top else None) or _elsewhere(top, text)
    if unread is not None:
        return replace(plain, refusal=unread)

    def question(section: Config) -> Question:
        return Question(section=section, plain=plain, published=published, tensors=tensors, top=top)

    if beside is not None:
        return _followed(question(beside.section("quantization") or beside), modelopt)
    try:
        outer, inner = _sections(top, text)
    except UnknownBytesError as error:
        return replace(plain, refusal=error.reason)
    section = outer or inner
    if section is None:
        return plain
    named = _named(question(section))
    return named if outer is not None else without_towers(named)


def _sections(top: Config, text: Config) -> tuple[Config | None, Config | None]:
    """The section of the whole file, and that of its text part. Raises UnknownBytesError."""
    outer, inner = _section(top), _section(text) if text is not top else None
    if outer is not None and inner is not None and outer.raw != inner.raw:
        raise UnknownBytesError(_differ(outer, inner))
    return outer, inner


def _section(config: Config) -> Config | None:
    """The section that says what was done; of two that differ MLX's, where it came from fp8.

    mlx-lm turned fp8 into 16 bits before its own quantisation, and until it wrote both keys left
    the old section where it was.
    """
    found = [config.section(key) for key in SECTIONS if config.raw.get(key)]
    sections = [section for section in found if section is not None]
    for other in sections[1:]:
        if other.raw != sections[0].raw:
            if _has_figures(other) and sections[0].raw.get("quant_method") == "fp8":
                return other
            raise UnknownBytesError(_differ(sections[0], other))
    return sections[0] if sections else None


def _differ(one: Config, other: Config) -> str:
    return f"{one.prefix.rstrip('. ')} and {other.prefix.rstrip('. ')} differ"


def _named(question: Question) -> Scheme:
    section = question.section
    method = str(section.word("quant_method") or "").lower()
    if section.has("quant_algo") and method in ("", "fp8"):
        method = "modelopt"
    if not method and _has_figures(section) and _is_mlx(section, question.top):
        method = "mlx"
    if method not in METHODS:
        if not method:
            return question.refused(f"{question.section_name} names no quant_method")
        return question.refused(f"quant_method {shown(method)}: its layout is not counted")
    return mlx(question) if method == "mlx" else _followed(question, METHODS[method])


def _followed(question: Question, method: Method) -> Scheme:
    """The method's scheme, where it looked at all that the section says."""
    named = method(question)
    unread = _unread_within(question.section)
    return question.refused(unread) if unread and named.refusal is None else named


# Figures of bits, and lists of modules: what a method does not know may change its bytes.
_WITHIN = re.compile(
    r"bits|group_size|modules|layer|ignore|exclu|skip|regex|expert|embed|head|dynamic|adapter",
    re.IGNORECASE,
)
_HARMLESS_WITHIN = re.compile(r"(act|super|mtp|kv)_.*", re.IGNORECASE)


def _unread_within(section: Config) -> str | None:
    """A key of the section itself that its method did not look at."""
    for key, value in section.raw.items():
        if key in section.read or not _WITHIN.search(key) or _HARMLESS_WITHIN.fullmatch(key):
            continue
        if value not in (None, False, 0, "", [], {}):
            return f"{section.name(printable(key))} is {shown(value)}, and nothing here reads it"
    return None


def _has_figures(section: Config) -> bool:
    return {"group_size", "bits"} <= set(section.raw)


def _is_mlx(section: Config, top: Config) -> bool:
    """mlx-lm names no method; it writes its figures under ``quantization``, of late under both."""
    modules = {key for key, value in section.raw.items() if isinstance(value, dict | bool)}
    same = top.raw.get("quantization") == section.raw
    return same and modules | set(FIGURES) >= set(section.raw)


def _elsewhere(top: Config, text: Config) -> str | None:
    """A section about quantisation at a level of the file where nothing looks."""
    levels: list[tuple[str, Any]] = [("", top.raw)]
    for prefix, level in levels:
        for key, value in level.items() if len(levels) <= _MAX_LEVELS else ():
            if not isinstance(value, dict) or not value:
                continue
            if key not in SECTIONS:
                levels.append((f"{prefix}{key}.", value))
            elif level is not top.raw and level is not text.raw:
                return f"{printable(prefix + key)} is an object that nothing here reads"
    return None


# Names of quantisers and of their figures, at the level of a model's own keys.
_KEYS = re.compile(
    r"quant|^(w_?bits?|bits|weight_bits|num_bits|nbits|bpw|q_group_size|group_size|"
    r"head_bits|wbits|groupsize)$|gptq|(^|_)awq|^exl\d|^hqq|^bnb_|load_in_\d|gguf|^nf4$|^fp8_|"
    r"compression_config|sparsity_config",
    re.IGNORECASE,
)
_HARMLESS = re.compile(
    r"_pre_quantization_dtype|num_(de)?quantizers?|.*quantizer_.*|.*dequant.*|use_.*quant.*kernel.*",
    re.IGNORECASE,
)


def _unread(config: Config) -> str | None:
    """A key about quantisation that nothing here reads: it cannot count as absent."""
    for key, value in config.raw.items():
        known = key in SECTIONS and isinstance(value, dict)
        if known or not _KEYS.search(key) or _HARMLESS.fullmatch(key):
            continue
        if value in (None, False, 0, "", [], {}):
            continue
        name = config.name(printable(key))
        return f"{name} is {shown(value)}, and what that does to the weights is not known"
    return None


__all__ = ["METHODS", "PLAIN_FILES", "SECTIONS", "Published", "scheme"]
