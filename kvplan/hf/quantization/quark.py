"""AMD Quark: one ``global_quant_config``, and modules that are left out by name."""

from __future__ import annotations

from kvplan.hf.config import Config
from kvplan.hf.quantization.base import Question, all_but
from kvplan.hf.quantized_matrix import MXFP4, SCALES, Layout, Scaled
from kvplan.hf.quantized_rows import Scheme


def quark(question: Question) -> Scheme:
    """fp8 with an fp32 scale a tensor or row, or OCP MXFP4, on all but the excluded modules.

    vLLM 0.33.0 quantization/quark/schemes.
    """
    section = question.section
    if section.raw.get("layer_type_quant_config") or section.raw.get("algo_config"):
        return question.refused("Quark with layer_type_quant_config or algo_config: not counted")
    if _own_layers(section):
        return question.refused("Quark with layer_quant_config: not counted")
    outer = section.section("global_quant_config")
    layout = None if outer is None else _quark_layout(outer)
    if layout is None:
        return question.refused("Quark's global_quant_config: not counted")
    return all_but(question, layout, question.listed("exclude"), head=True)


def _own_layers(section: Config) -> bool:
    """Entries that are about more than the KV cache."""
    layers = section.section("layer_quant_config")
    export = section.section("export")
    cache = export.words("kv_cache_group") if export is not None else None
    return layers is not None and bool(set(layers.raw) - set(cache or ()))


def _quark_layout(outer: Config) -> Layout | None:
    weight, inputs = outer.raw.get("weight"), outer.raw.get("input_tensors")
    if not isinstance(weight, dict) or not (inputs is None or isinstance(inputs, dict)):
        return None
    dtype, scheme = weight.get("dtype"), weight.get("qscheme")
    if dtype == "fp4" and scheme == "per_group" and weight.get("group_size") == 32:  # noqa: PLR2004 - OCP MX
        return MXFP4 if weight.get("scale_format") == "e8m0" else None
    if dtype != "fp8_e4m3" or weight.get("is_dynamic"):
        return None
    static = inputs is not None and inputs.get("is_dynamic") is False
    scalars = ((("fp32",), 1, "activation scale"),) if static else ()
    block = {"per_tensor": (0, 0), "per_channel": (1, 0)}.get(str(scheme))
    return Scaled("fp8", block, ("fp32",), SCALES, scalars) if block else None
