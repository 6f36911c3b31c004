"""Weights as an engine holds them: cast to the dtype that it serves, or quantised by hypothesis."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from kvplan.errors import RefusedError, UsageError, nearest
from kvplan.planner.quantizers import Quantizer, quantizer
from kvplan.spec import ModelSpec
from kvplan.stored import StoredWeights

Dtype = Literal["bf16", "fp16", "fp32"]

DTYPES: dict[str, Dtype | None] = {
    "auto": None,
    "half": "fp16",
    "float16": "fp16",
    "bfloat16": "bf16",
    "float": "fp32",
    "float32": "fp32",
}
"""vLLM 0.33.0's values of --dtype (config/model.py, _STR_DTYPE_TO_TORCH_DTYPE)."""

_WIDE = ("fp64", "fp32")
_PLAIN = (*_WIDE, "bf16", "fp16")
_PARAMETERS = (None, "not in parameters")
_CAPABILITY = re.compile(r"(\d{1,3})\.\d{1,3}")
_FIRST_WITH_BF16 = 8


@dataclass(frozen=True)
class Served:
    """A model as it is served: ``spec`` has the rows that a GPU holds, and the dtype of ``auto``.

    ``notes`` say what was assumed, a sentence each; ``basis`` is "assumed" where there are any.
    """

    spec: ModelSpec
    stored: ModelSpec
    """The same as it is published."""
    notes: tuple[str, ...] = ()

    @property
    def basis(self) -> Literal["config", "assumed"]:
        """Whether the weights are the checkpoint's own or rest on an assumption."""
        return "assumed" if self.notes else "config"


def serve(
    spec: ModelSpec,
    dtype: str = "auto",
    quantization: str | None = None,
    compute_capability: str | None = None,
) -> Served:
    """The model with its weights as an engine holds them, ready for ``weights_on_rank``.

    ``dtype`` is one of ``DTYPES``, ``quantization`` one of ``QUANTIZERS`` and kvplan's hypothesis
    for a checkpoint that is not quantised; ``compute_capability`` is an NVIDIA GPU's ("8.9"), None
    where it is 8.0 or more or there is none.

    What is stored in 16 or 32 bit is cast. Not cast: scales and buffers (the biases that balance
    experts are fp32 in vLLM 0.33.0 models/deepseek_v2.py), and what a 16-bit checkpoint stores in
    fp32, which engines keep so (MiniMax-M2's router, A_log of Qwen3.5, DeepSeek-V4's
    hyper-connections). A second copy of a tied head is not loaded.

    Raises UsageError for a name that is not known or a dtype that the GPU does not have,
    RefusedError where the checkpoint is quantised already or does not tell its parts apart.
    """
    quantized = None if quantization is None else quantizer(quantization)
    served, notes = _dtype(spec, dtype, compute_capability)
    if quantized is not None:
        _refuse_quantized(spec, quantized)
        notes += (f"{quantized.name} is a hypothesis: {quantized.about}",)
    weights = tuple(_weights(spec, served, quantized))
    return Served(replace(spec, dtype=served, weights=weights), spec, notes)


def _dtype(spec: ModelSpec, name: str, capability: str | None) -> tuple[Dtype, tuple[str, ...]]:
    """The dtype served, and what is assumed with it.

    vLLM 0.33.0 config/model.py _resolve_auto_dtype: under ``auto`` float32 becomes the first dtype
    that the platform has, and so does bf16 where it is not among them.
    """
    if name.lower() not in DTYPES:
        near = nearest(name.lower(), DTYPES, 2)
        hint = f"did you mean {' or '.join(near)}?" if near else f"one of: {', '.join(DTYPES)}"
        raise UsageError(f"no dtype is called {name!r}", hint)
    has_bf16 = _has_bf16(capability)
    given = DTYPES[name.lower()]
    if given == "bf16" and not has_bf16:
        raise UsageError(
            f"bfloat16 needs compute capability 8.0 or more; this GPU has {capability}",
            "serve it in half",
        )
    if given is not None:
        return given, ()
    if has_bf16:
        served: Dtype = "bf16" if spec.dtype == "fp32" else spec.dtype
        return served, tuple(_cast(spec, served))
    return "fp16", (*_cast(spec, "fp16"), *_without_bf16(spec))


def _has_bf16(capability: str | None) -> bool:
    if capability is None:
        return True
    match = _CAPABILITY.fullmatch(capability)
    if match is None:
        raise UsageError(f"{capability!r} is not a compute capability", "write it as 8.9")
    return int(match[1]) >= _FIRST_WITH_BF16


def _cast(spec: ModelSpec, served: Dtype) -> Iterator[str]:
    if _own_dtype(spec) not in _WIDE:
        return
    yield f"its weights are stored in fp32 and count in {served}, as vLLM 0.33.0 loads them"
    if any(row.part == "recurrent" for row in spec.weights):
        yield (
            "engines keep the decays of recurrent layers (A_log) in fp32; they count in "
            f"{served} like the rest"
        )


def _without_bf16(spec: ModelSpec) -> Iterator[str]:
    if spec.dtype != "fp16":
        yield (
            "below compute capability 8.0 vLLM 0.33.0 serves it in fp16; Gemma 2, Gemma 3 and "
            "GLM-4 it serves in fp32 there, twice these weights"
        )


def _own_dtype(spec: ModelSpec) -> str | None:
    """The dtype of most parameters that are not quantised."""
    elements: Counter[str] = Counter()
    for row in spec.weights:
        if row.dtype in _PLAIN and row.what in _PARAMETERS:
            elements[row.dtype] += row.elements
    return max(elements, key=lambda dtype: elements[dtype], default=None)


def _weights(
    spec: ModelSpec, served: Dtype, quantized: Quantizer | None
) -> Iterator[StoredWeights]:
    own = _own_dtype(spec)
    for row in filter(lambda row: row.is_loaded, spec.weights):
        kept_wide = row.dtype in _WIDE and own not in _WIDE
        if row.dtype not in _PLAIN or row.what not in _PARAMETERS or kept_wide:
            yield row
        elif quantized is not None and row.part in quantized.parts:
            yield from quantized.rows(row)
        elif quantized is not None and row.part in quantized.single_precision:
            yield replace(row, dtype="fp32")
        else:
            yield replace(row, dtype=served)


def _refuse_quantized(spec: ModelSpec, quantized: Quantizer) -> None:
    for row in spec.weights:
        if row.dtype not in _PLAIN and row.what in (*_PARAMETERS, "packed"):
            raise RefusedError(
                f"{spec.name} is quantised already: its weights hold {row.dtype}",
                "leave quantization out, or name its 16-bit checkpoint",
            )
        if row.part is None:
            raise RefusedError(
                f"{spec.name} does not say which part each row of its weights is, so what "
                f"{quantized.name} would quantise is not known",
                "give every row its part: attention, dense_mlp, embedding and so on",
            )
