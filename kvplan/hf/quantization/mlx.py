"""MLX: ``quantization`` of mlx-lm, embeddings too, with figures of single modules beside it.

mlx-lm 0.32.2 utils.py (quantize_model): every module that can be quantised and whose columns are a
multiple of the group; a model's own exceptions stand in the file by their paths.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import replace

from kvplan.hf import module_names as names
from kvplan.hf.blocks.base import TOWERS, Tensor
from kvplan.hf.config import Config, shown
from kvplan.hf.quantization.base import MAX_NAMES, Question
from kvplan.hf.quantized_matrix import (
    MXFP4,
    MXFP8,
    Doubtful,
    Grouped,
    Layout,
    Scaled,
    UnknownBytesError,
)
from kvplan.hf.quantized_rows import Scheme

FIGURES = ("group_size", "bits", "mode", "global_scale")
"""Keys that are not the path of a module."""
_NVFP4 = Scaled("fp4", (1, 16), ("fp8",), "scale per 16", even=True)
_FLOATS: dict[str, tuple[Layout, int]] = {
    "mxfp4": (MXFP4, 32),
    "mxfp8": (MXFP8, 32),
    "nvfp4": (_NVFP4, 16),
}
_AFFINE_BITS = (2, 3, 4, 5, 6, 8)


def mlx(question: Question) -> Scheme:
    """The default on all modules, and what the file says of single ones."""
    section = question.section
    default = _layout(section, question.plain.dtype)
    if default is None:
        mode = section.raw.get("mode")
        return question.refused(f"MLX {shown(mode)} without bits and group_size that are known")
    own: dict[str, tuple[Layout, int] | None] = {}
    for key, value in section.raw.items():
        if key in FIGURES or key == "quant_method":
            continue
        if len(own) >= MAX_NAMES or not (
            isinstance(value, dict) or value is False or value is True
        ):
            return question.refused(f"{section.name(key)} is not a module's own figures")
        inner = section.section(key) if isinstance(value, dict) else None
        found = _layout(inner, question.plain.dtype) if inner is not None else default
        if found is None:
            return question.refused(f"{section.name(key)}: bits and group_size are not known")
        own[_path(key)] = None if value is False else found
    lost = _lost(question, own)
    if lost is not None:
        return question.refused(f"{section.prefix}{shown(lost)} is no module that is known here")
    return _scheme(question, default, own)


def _lost(question: Question, own: Collection[str]) -> str | None:
    """A path with figures of its own that no module has: its bytes would be missed in silence.

    Modules of a tower or of draft layers that are not counted are no loss.
    """
    known = {
        real
        for tensor in question.tensors
        for layer in tensor.layers or (0,)
        for real in _paths(tensor, layer)
    }
    return next((path for path in own if path not in known and not _ELSEWHERE.search(path)), None)


_ELSEWHERE = re.compile(r"vision|visual|audio|multi_modal|mm_projector|mtp|nextn", re.IGNORECASE)


def _path(key: str) -> str:
    """MLX stacks the experts of a layer under switch_mlp: the same matrices."""
    return key.replace(".switch_mlp.", ".experts.0.").removeprefix("language_model.")


def _layout(section: Config, dtype: str) -> tuple[Layout, int] | None:
    """The layout of these figures and the columns that share a scale."""
    mode = str(section.word("mode") or "affine")
    if mode in _FLOATS and not section.raw.get("global_scale"):
        return _FLOATS[mode]
    bits, group = section.maybe("bits", most=8), section.maybe("group_size", most=1 << 10)
    if mode != "affine" or bits not in _AFFINE_BITS or group is None or group % 32:
        return None
    layout = Grouped(bits=bits, group=group, scale=(dtype,), zeros="numbers")
    return layout, int(group)


def _scheme(
    question: Question,
    default: tuple[Layout, int],
    own: dict[str, tuple[Layout, int] | None],
) -> Scheme:
    plain = question.plain.dtype

    def by_layer(tensor: Tensor, layer: int) -> Layout | None:
        if tensor.part in TOWERS:
            raise UnknownBytesError("the file does not say whether MLX quantised the tower")
        for path in _paths(tensor, layer):
            if path in own:
                figures = own[path]
                return None if figures is None or tensor.shape[-1] % figures[1] else figures[0]
        if tensor.shape[-1] % default[1]:
            return None
        doubted = tensor.name.endswith(question.published.mlx_doubts)
        sure = _is_sure(tensor) and not doubted
        return default[0] if sure else Doubtful(default[0], plain)

    return replace(question.plain, by_layer=by_layer, covers=_has_columns)


def _paths(tensor: Tensor, layer: int) -> Iterator[str]:
    """The module's paths on this layer: in an mlx-lm model, and in one that a wrapper holds."""
    for name in names.spellings_in_layer(tensor, layer):
        yield from (name, name.removeprefix("language_model."))


def _is_sure(tensor: Tensor) -> bool:
    return tensor.kind == "linear" or tensor.part == "embedding"


def _has_columns(tensor: Tensor) -> bool:
    """Routers and gates are linear layers to MLX, and models may leave them out."""
    return tensor.kind != "buffer" and len(tensor.shape) > 1 and tensor.dtype is None
