"""bitsandbytes: nf4, fp4 and int8 of checkpoints that were saved quantised.

Checked against checkpoints that transformers 5.24.0 wrote with bitsandbytes 0.50.2.
"""

from __future__ import annotations

import re
from dataclasses import replace

from kvplan.hf import module_names as names
from kvplan.hf.blocks.base import TOWERS, Tensor
from kvplan.hf.config import Config, shown
from kvplan.hf.quantization.base import Question, by_whole_names, is_fused
from kvplan.hf.quantized_matrix import SCALES, Codebook, Doubtful, Layout, Scaled, UnknownBytesError
from kvplan.hf.quantized_rows import Scheme, is_linear

_TORCH = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
# weight, SCB (a scale a row) and weight_format, which older releases do not write.
_INT8 = Scaled("int8", (1, 0), ("fp32",), SCALES, ((("", "uint8"), 1, SCALES),))
_VERSION = re.compile(r"(\d{1,3})\.\d")
_FUSED_SINCE = 5


def bitsandbytes(question: Question) -> Scheme:
    """Every linear layer, in towers too, but those of ``llm_int8_skip_modules``; none: the head.

    Experts are linear layers up to transformers 4, and parameters that nobody quantises since 5
    (models of 5.24.0, saved).
    """
    section = question.section
    layout = _layout(question)
    if layout is None:
        return question.refused("bitsandbytes without load_in_4bit or load_in_8bit")
    release = _release(question.top)
    listed = question.listed("llm_int8_skip_modules")
    skipped = names.patterns(listed)
    doubtful = names.unmatched_in_towers(skipped, question.tensors)

    def of(tensor: Tensor) -> Layout | None:
        if tensor.part == "lm_head" and not section.has("llm_int8_skip_modules"):
            return None
        if not is_linear(tensor):
            router = tensor.part == "router" and release is not None and release >= _FUSED_SINCE
            return None if router else Doubtful(layout, question.plain.dtype)
        if doubtful and tensor.part in TOWERS:
            raise UnknownBytesError(
                "llm_int8_skip_modules names layers of the tower not known here"
            )
        if tensor.part != "routed_experts":
            return layout
        if len(names.skipped(skipped, tensor)) == tensor.times:
            return None
        if is_fused(tensor) or release is None:
            raise UnknownBytesError(
                "bitsandbytes quantises experts or leaves them by the release of transformers, "
                "and the file does not tell"
            )
        return layout if release < _FUSED_SINCE else None

    return replace(by_whole_names(question, of, listed), default_rule=True, covers=_may_be_linear)


def _may_be_linear(tensor: Tensor) -> bool:
    """Routers and gates of experts are linear layers in some classes and releases."""
    gate = tensor.part in ("router", "shared_experts") and len(tensor.shape) > 1
    return is_linear(tensor) or (gate and tensor.kind == "other" and tensor.dtype is None)


def _layout(question: Question) -> Layout | None:
    section = question.section
    if section.flag("load_in_8bit") and not section.flag("load_in_4bit"):
        return _INT8
    name = str(section.word("bnb_4bit_quant_type") or "fp4").lower()
    if not section.flag("load_in_4bit"):
        return None
    if name not in ("nf4", "fp4"):
        section.refuse(f"bnb_4bit_quant_type is {shown(name)}; nf4 and fp4 are known")
    nested = section.flag("bnb_4bit_use_double_quant")
    return Codebook(name, nested, _TORCH[question.plain.dtype])


def _release(top: Config) -> int | None:
    """The major release of transformers that wrote the file."""
    found = _VERSION.match(str(top.raw.get("transformers_version") or ""))
    return int(found[1]) if found else None
