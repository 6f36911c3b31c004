"""8- and 4-bit floats of transformers and engines: fp8, fbgemm_fp8, mxfp4."""

from __future__ import annotations

from dataclasses import replace

from kvplan.hf.quantization.base import Question, all_but, all_but_listed
from kvplan.hf.quantized_matrix import MXFP4, Layout, Scaled, fp8_blocks, fp8_tensor
from kvplan.hf.quantized_rows import Scheme

_SIDES = 2


def fp8(question: Question) -> Scheme:
    """The fp8 of transformers: everything linear but the head, the router and the named ones."""
    section, published = question.section, question.published
    listed = question.listed("modules_to_not_convert", "ignored_layers")
    if published.lists_fp8 and not listed:
        what = "published files of this family name modules that stay in 16 bits, this one none"
        return question.refused(what)
    blocks = section.numbers("weight_block_size")
    static = section.word("activation_scheme") == "static"
    layout: Layout = fp8_tensor(("bf16", "fp32"), activations=static)
    if blocks is not None:
        if len(blocks) != _SIDES or not all(1 <= size <= 1 << 16 for size in blocks):
            section.refuse("weight_block_size has to be two numbers above zero")
        layout = fp8_blocks(blocks[0], blocks[1], (published.fp8_scale,))
    if published.fp8 is not None:
        return published.fp8(section, question.plain, layout)
    return all_but(question, layout, listed)


def mxfp4(question: Question) -> Scheme:
    """gpt-oss: the experts' matrices, and nothing else."""
    question.section.words("modules_to_not_convert")
    if not question.published.mxfp4_experts:
        return question.refused("mxfp4 is known for gpt-oss alone")
    return replace(question.plain, layout=lambda t: MXFP4 if t.part == "routed_experts" else None)


_FBGEMM = Scaled("fp8", (1, 0), ("fp32",), "scale per row")


def fbgemm_fp8(question: Question) -> Scheme:
    """fp8 with an fp32 scale a row; the bound of the inputs' scale is not saved.

    transformers 5.24.0 integrations/fbgemm_fp8.py:103 (FbgemmFp8Linear).
    """
    return all_but_listed(question, _FBGEMM, "modules_to_not_convert")
