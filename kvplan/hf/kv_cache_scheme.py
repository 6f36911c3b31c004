"""The KV cache scheme that a checkpoint names itself; weight quantisation says nothing about it."""

from __future__ import annotations

import re
from typing import Any

from kvplan.hf.config import Config, Word, shown
from kvplan.hf.quantization import SECTIONS

# ModelOpt's names and vLLM's (0.33.0 utils/torch_utils.py:78, 443).
_NAMED = {"fp8": "fp8", "fp8_e4m3": "fp8_e4m3", "fp8_e5m2": "fp8_e5m2", "nvfp4": "nvfp4"}
_FLOATS = {8: "fp8", 4: "nvfp4"}
_NONE = ("none", "auto", "")
_SCHEME_KEYS = ("kv_cache_scheme", "kv_cache_quant_algo")
_KV = re.compile(r"kv_?cache", re.IGNORECASE)


def kv_cache_scheme(configs: list[Config], quantization_file: Config | None) -> Word | None:
    """The KV dtype that the checkpoint asks for, or None where it names none.

    Looks in the sections about quantisation of every level and in hf_quant_config.json beside the
    file. Raises RefusedError for a scheme that kvplan has no
    format for, and where two places disagree.
    """
    found = [scheme for config in configs for scheme in _in_config(config)]
    if quantization_file is not None:
        found += _in_modelopt_file(quantization_file)
    for scheme in found[1:]:
        if str(scheme) != str(found[0]):
            configs[0].refuse(
                f"{found[0].origin} says that the KV cache is {found[0]}, {scheme.origin} {scheme}"
            )
    return found[0] if found else None


def _in_config(config: Config) -> list[Word]:
    found = []
    for key in SECTIONS:
        is_name = isinstance(config.raw.get(key), str)  # of a method: nothing about the cache
        section = None if is_name and key == "quantization" else config.section(key)
        if section is not None:
            found += _schemes(section) + _quark(section)
            _refuse_unknown(section)
    return found


def _in_modelopt_file(file: Config) -> list[Word]:
    section = file.section("quantization") or file
    found = _schemes(section)
    _refuse_unknown(section)
    return found


def _schemes(section: Config) -> list[Word]:
    inner = section.section("quantization")
    found = _schemes(inner) if inner is not None else []
    for key in _SCHEME_KEYS:
        _, value = section.value(key)
        scheme = _scheme(section, key, value)
        if scheme:
            found.append(Word(scheme, section.name(key)))
    return found


def _scheme(section: Config, key: str, value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, dict):
        return _described(section, key, value)
    name = section.expect(key, value, str, "a name or an object").lower()
    if name in _NONE:
        return None
    if name not in _NAMED:
        section.refuse(f"{section.name(key)} is {shown(value)}, a KV cache that has no format here")
    return _NAMED[name]


def _described(section: Config, key: str, value: dict[str, Any]) -> str:
    """compressed-tensors: 8 bit floats with a scale a tensor or head, none of it in the cache.

    vLLM 0.33.0 compressed_tensors.py:1103 takes nothing else; ModelOpt's 4 bit float is NVFP4
    (utils/torch_utils.py:463).
    """
    bits, kind, strategy = value.get("num_bits"), value.get("type"), value.get("strategy")
    scheme = _FLOATS.get(bits) if type(bits) is int and kind == "float" else None
    if scheme is None or strategy not in (None, "tensor", "attn_head"):
        section.refuse(
            f"{section.name(key)} asks for {shown(bits)} bits of {shown(kind)}, a scale for each "
            f"{shown(strategy)}: a KV cache that has no format here"
        )
    return scheme


def _quark(section: Config) -> list[Word]:
    """AMD Quark: ``export.kv_cache_group`` names layers, their ``output_tensors`` the dtype.

    vLLM 0.33.0 quantization/quark/quark.py:276-330, 1022 (fp8_e4m3 and nothing else).
    """
    _, method = section.value("quant_method")
    export = section.section("export")
    if method != "quark" or export is None:
        return []
    group = export.words("kv_cache_group")
    if not group:
        return []
    layers = section.section("layer_quant_config")
    dtypes = {_output_dtype(layers, name) for name in group}
    if dtypes != {"fp8_e4m3"}:
        section.refuse(f"{export.name('kv_cache_group')} asks for a KV cache that is not fp8_e4m3")
    return [Word("fp8", export.name("kv_cache_group"))]


def _output_dtype(layers: Config | None, name: str) -> str | None:
    layer = layers.section(name) if layers is not None else None
    output = layer.section("output_tensors") if layer is not None else None
    return output.word("dtype") if output is not None else None


def _refuse_unknown(section: Config) -> None:
    for key, value in section.raw.items():
        if _KV.search(key) and key not in section.read and value not in (None, False, "", [], {}):
            section.refuse(f"{section.name(key)} is a KV cache setting that is not known here")
