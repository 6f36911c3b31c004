"""From quantization_config and hf_quant_config.json to the scheme that a checkpoint follows.

Where the file does not decide which modules are quantised, or how, the scheme is a refusal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from kvplan.hf import module_names as names
from kvplan.hf.blocks.base import TOWERS, Tensor
from kvplan.hf.config import MAX_LAYERS, Config, shown
from kvplan.hf.quantized_rows import (
    MXFP4,
    Dtypes,
    Layout,
    Scheme,
    fp8_blocks,
    fp8_tensor,
    nvfp4,
)


@dataclass(frozen=True, kw_only=True)
class Published:
    """What quantised files of one family are known to do."""

    lists_fp8: bool = False
    """fp8 files name modules that stay as they are (MiMo's o_proj): no names, a lost list."""
    fp8_scale: str = "fp32"
    fp8: Callable[[Config, Scheme, Layout], Scheme] | None = None
    """The family's own rule of what a plain fp8 file converts: section, scheme, fp8 layout."""
    mxfp4_experts: bool = False
    """quant_method mxfp4 is known: the experts' matrices, not their biases (gpt-oss)."""
    modelopt_base: Layout | None = None
    """ModelOpt exports need their list of layers and leave the rest as this base."""


PLAIN_FILES = Published()
"""Nothing of a family's own."""


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
    if beside is not None:
        inner = beside.section("quantization") or beside
        return _modelopt(inner, plain, published, tensors)
    outer = _section(top)
    section = outer or _section(text)
    if section is None:
        return plain
    named = _named(section, plain, published, tensors)
    return named if outer is not None else _text_only(named)


def _section(config: Config) -> Config | None:
    return config.section("quantization_config") or config.section("compression_config")


def _named(section: Config, plain: Scheme, published: Published, tensors: list[Tensor]) -> Scheme:
    method = str(section.word("quant_method") or "").lower()
    if method == "modelopt" or (section.has("quant_algo") and method in ("", "fp8")):
        return _modelopt(section, plain, published, tensors)
    makers: dict[str, Callable[..., Scheme]] = {
        "fp8": _fp8,
        "mxfp4": _mxfp4,
        "compressed-tensors": _compressed,
    }
    if method not in makers:
        what = f"quant_method {shown(method)}: its layout is not counted"
        return replace(plain, refusal=what)
    return makers[method](section, plain, published, tensors)


def _text_only(scheme: Scheme) -> Scheme:
    """A scheme inside text_config leaves the towers alone."""
    inner, by_layer = scheme.layout, scheme.by_layer

    def layout(tensor: Tensor) -> Layout | None:
        return inner(tensor) if inner and tensor.part not in TOWERS else None

    def one(tensor: Tensor, layer: int) -> Layout | None:
        return by_layer(tensor, layer) if by_layer and tensor.part not in TOWERS else None

    return replace(scheme, layout=layout if inner else None, by_layer=one if by_layer else None)


def _fp8(section: Config, plain: Scheme, published: Published, tensors: list[Tensor]) -> Scheme:
    """The fp8 of transformers: everything linear but the head, the router and the named ones."""
    listed = _lists(section, "modules_to_not_convert", "ignored_layers")
    if published.lists_fp8 and not listed:
        what = "published files of this family name modules that stay in 16 bits, this one none"
        return replace(plain, refusal=what)
    blocks = section.numbers("weight_block_size")
    static = section.word("activation_scheme") == "static"
    if blocks is not None:
        if len(blocks) != 2 or not all(1 <= size <= 1 << 16 for size in blocks):  # noqa: PLR2004 - rows and columns
            section.refuse("weight_block_size has to be two numbers above zero")
        layout = fp8_blocks(blocks[0], blocks[1], (published.fp8_scale,))
    else:
        layout = fp8_tensor(("bf16", "fp32"), activations=static)
    if published.fp8 is not None:
        return published.fp8(section, plain, layout)
    return _all_but(section, plain, layout, listed, tensors)


def _mxfp4(section: Config, plain: Scheme, published: Published, _: list[Tensor]) -> Scheme:
    section.words("modules_to_not_convert")
    if not published.mxfp4_experts:
        return replace(plain, refusal="mxfp4 is known for gpt-oss alone")
    return replace(plain, layout=lambda t: MXFP4 if t.part == "routed_experts" else None)


def _compressed(section: Config, plain: Scheme, _: Published, tensors: list[Tensor]) -> Scheme:
    """compressed-tensors: one group of all linear layers but the ignored ones."""
    groups = section.section("config_groups")
    if groups is None or len(groups.raw) != 1:
        return replace(plain, refusal="config_groups is not one group of layers")
    group = groups.section(next(iter(groups.raw)))
    if group is None or group.words("targets") != ["Linear"]:
        return replace(plain, refusal="config_groups names other targets than Linear")
    status = section.word("quantization_status")
    if status not in (None, "compressed"):
        return replace(plain, refusal=f"quantization_status is {shown(str(status))}")
    if any(section.raw.get(key) for key in ("sparsity_config", "transform_config")):
        return replace(plain, refusal="sparsity_config or transform_config is set")
    name = str(group.word("format") or section.word("format") or "")
    layout = _compressed_layout(group, name, plain.dtype)
    if layout is None:
        return replace(plain, refusal=f"compressed-tensors format {shown(name)}: not counted")
    return _all_but(section, plain, layout, _lists(section, "ignore"), tensors, head=True)


def _compressed_layout(group: Config, name: str, dtype: str) -> Layout | None:
    """Formats of compressed-tensors 0.12; int4 and mxfp4 met Kimi-K2.5's and K3's bytes exactly."""
    weights = group.section("weights")
    if weights is None or weights.raw.get("actorder") not in (None, False, "weight", "static"):
        return None
    static = _static_inputs(group)
    bits, kind = weights.raw.get("num_bits"), weights.raw.get("type")
    strategy, size = weights.raw.get("strategy"), weights.maybe("group_size", most=1 << 16)
    scale: Dtypes = (dtype, "fp32") if dtype != "fp32" else ("fp32",)
    if name == "pack-quantized" and (bits, kind, strategy) == (4, "int", "group") and size:
        shape = ((("int32",), 2, "weight_shape"),)
        return _symmetric(weights, Layout("int4", (1, size), scale[:1], f"scale per {size}", shape))
    if name == "mxfp4-pack-quantized" and (bits, size) == (4, 32):
        return MXFP4
    if name == "nvfp4-pack-quantized" and (bits, size) == (4, 16):
        return nvfp4(activations=group.has("input_activations"))
    if name == "float-quantized" and (bits, kind) == (8, "float") and not static:
        return _float_layout(weights, strategy, scale)
    return None


def _static_inputs(group: Config) -> bool:
    inputs = group.section("input_activations")
    return inputs is not None and inputs.raw.get("dynamic") is not True


def _symmetric(weights: Config, layout: Layout) -> Layout | None:
    """Zero points would be stored too. Columns that are not a multiple would be padded."""
    return replace(layout, even=True) if weights.flag("symmetric", default=True) else None


def _float_layout(weights: Config, strategy: Any, scale: Dtypes) -> Layout | None:
    if strategy == "block":
        blocks = weights.numbers("block_structure") or []
        if len(blocks) != 2 or not all(1 <= size <= 1 << 16 for size in blocks):  # noqa: PLR2004 - rows and columns
            return None
        return fp8_blocks(blocks[0], blocks[1], scale)
    if strategy == "channel":
        return Layout("fp8", (1, 0), scale, "scale per row")
    if strategy == "tensor":
        return fp8_tensor(scale, activations=False)
    return None


def _modelopt(
    section: Config, plain: Scheme, published: Published, tensors: list[Tensor]
) -> Scheme:
    """NVIDIA ModelOpt: one algorithm and an exclude list, or a list of what is quantised."""
    word = section.word("quant_algo")
    plain = replace(plain, cache_scales=_cache_scales(section, tensors))
    if word == "MIXED_PRECISION":
        return _mixed(section, plain, published, tensors)
    layouts = {
        "NVFP4": nvfp4(activations=True),
        "FP8": fp8_tensor(("fp32",), activations=True),
        "W4A16_NVFP4": nvfp4(activations=False),
    }
    if word not in layouts:
        return replace(plain, refusal=f"quant_algo {shown(str(word or ''))} is not counted")
    keys = ("exclude_modules", "ignore")
    if not any(key in section.raw for key in keys):
        return replace(plain, refusal=f"quant_algo {word}, and no list of what is left out")
    if section.maybe("group_size", most=1 << 16) not in (None, 16):
        return replace(plain, refusal="group_size is not 16")
    listed = _lists(section, *keys)
    if published.modelopt_base is not None:
        problem = "a ModelOpt file without the list of layers that this family's files have"
        return replace(plain, refusal=problem)
    return _all_but(section, plain, layouts[str(word)], listed, tensors, head=True)


def _cache_scales(section: Config, tensors: list[Tensor]) -> int:
    """Layers whose KV scales ModelOpt may have stored; published files differ."""
    keys = ("kv_cache_quant_algo", "kv_cache_scheme")
    if not any(section.raw.get(key) for key in keys):
        return 0
    return sum(t.times for t in tensors if t.part == "attention" and t.name.endswith("o_proj"))


def _mixed(section: Config, plain: Scheme, published: Published, tensors: list[Tensor]) -> Scheme:
    listed = section.section("quantized_layers")
    if listed is None:
        return replace(plain, refusal="MIXED_PRECISION without quantized_layers")
    if len(listed.raw) > 4 * MAX_LAYERS:
        section.refuse("quantized_layers is too long")
    found: dict[str, Layout] = {}
    for name, entry in listed.raw.items():
        algo = entry.get("quant_algo") if isinstance(entry, dict) else None
        layout = _MIXED.get(algo) if isinstance(algo, str) else None
        if layout is None:
            return replace(plain, refusal=f"quantized_layers has {shown(algo)} for {shown(name)}")
        found[name] = layout
    return _from_list(plain, found, published.modelopt_base, tensors)


_MIXED = {
    "FP8": fp8_tensor(("fp32",), activations=True),
    "NVFP4": nvfp4(activations=True),
    "W4A16_NVFP4": nvfp4(activations=False),
}


def _from_list(
    plain: Scheme, found: dict[str, Layout], base: Layout | None, tensors: list[Tensor]
) -> Scheme:
    known: set[str] = set()

    def one(tensor: Tensor, layer: int) -> Layout | None:
        for name in names.spellings(tensor.name):
            real = name.replace("*", str(layer), 1).replace("*", "0", 1)
            for key in (real, real.split(".experts.")[0] + ".experts"):
                if key in found and (key == real or ".experts." in real):
                    known.add(key)
                    return found[key]
        return None if tensor.part == "lm_head" else base

    for tensor in tensors:
        if tensor.kind == "linear" and tensor.part not in TOWERS:
            for layer in tensor.layers or (0,):
                one(tensor, layer)
    lost = [name for name in found if name not in known and not names.OUTSIDE.search(name)]
    if lost:
        return replace(plain, refusal=f"quantized_layers names {shown(lost[0])}, not known here")

    def by_layer(tensor: Tensor, layer: int) -> Layout | None:
        return None if tensor.part in TOWERS else one(tensor, layer)

    return replace(plain, by_layer=by_layer)


def _all_but(
    section: Config,
    plain: Scheme,
    layout: Layout,
    listed: list[str],
    tensors: list[Tensor],
    *,
    head: bool = False,
) -> Scheme:
    """The layout on every linear layer but the named ones; ``head`` has to be named to stay."""
    found = names.patterns(listed)
    problem = found.problem or names.lost(found, tensors)
    if problem is not None:
        return replace(plain, refusal=f"{section.prefix.rstrip('.: ')}: {problem}")

    def of(tensor: Tensor) -> Layout | None:
        return None if tensor.part == "lm_head" and not head else layout

    return replace(plain, layout=of, skips=lambda tensor: names.skipped(found, tensor))


def _lists(section: Config, *keys: str) -> list[str]:
    return [name for key in keys for name in section.items(key, str, "names", 200_000) or ()]
