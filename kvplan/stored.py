"""Weights as a checkpoint stores them: elements by part of the model and dtype."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kvplan.limits import Count, Input, Text
from kvplan.units import ceil_div

WeightDtype = Literal[
    "fp64",
    "fp32",
    "bf16",
    "fp16",
    "fp8",
    "fp8_e5m2",
    "fp8_e4m3fnuz",
    "fp8_e5m2fnuz",
    "e8m0",
    "fp6_e2m3",
    "fp6_e3m2",
    "fp4",
    "complex64",
    "int64",
    "int32",
    "int16",
    "int8",
    "int4",
    "int2",
    "uint64",
    "uint32",
    "uint16",
    "uint8",
    "bool",
]

WEIGHT_BITS = {
    "fp64": 64,
    "fp32": 32,
    "bf16": 16,
    "fp16": 16,
    "fp8": 8,
    "fp8_e5m2": 8,
    "fp8_e4m3fnuz": 8,
    "fp8_e5m2fnuz": 8,
    "e8m0": 8,
    "fp6_e2m3": 6,
    "fp6_e3m2": 6,
    "fp4": 4,
    "complex64": 64,
    "int64": 64,
    "int32": 32,
    "int16": 16,
    "int8": 8,
    "int4": 4,
    "int2": 2,
    "uint64": 64,
    "uint32": 32,
    "uint16": 16,
    "uint8": 8,
    "bool": 8,
}
"""Bits of one stored element; block scales are elements of their own (fp8 blocks: fp32 scales)."""

Part = Literal[
    "embedding",
    "lm_head",
    "attention",
    "attention_down",  # MLA's projections into the latents
    "dense_mlp",
    "routed_experts",
    "shared_experts",
    "router",
    "norm",
    "recurrent",
    "indexer",
    "vision",
    "audio",
    "other",
]
"""Where in a model weights stand, for what becomes of them on one of several GPUs."""


@dataclass(frozen=True, kw_only=True)
class Parameters(Input):
    """Parameters without draft (MTP) layers; ``active`` are those that one token uses.

    ``active`` is None where it varies by token (LongCat-Flash's zero experts).
    """

    total: Count
    active: Count | None

    def __post_init__(self) -> None:
        if self.active and self.active > self.total:
            raise ValueError("active parameters cannot be more than the total")


@dataclass(frozen=True, kw_only=True)
class StoredWeights(Input):
    """Elements of one dtype in one part of the published checkpoint.

    ``what`` names what is stored beside the parameters themselves: ``scales``, ``buffers``,
    or weights ``not in parameters`` (a vision tower where the total is the language model's).
    ``packed`` are several parameters in one element, nobody knows how many.
    """

    part: Part | None = None
    dtype: WeightDtype
    elements: Count
    what: Text | None = None

    @property
    def is_loaded(self) -> bool:
        """Whether engines load it: a second copy of a tied head is stored, and skipped by them.

        vLLM 0.33.0 model_executor/models/utils.py, AutoWeightsLoader(skip_prefixes=["lm_head."]).
        """
        return not (self.part == "lm_head" and self.what == "buffers")

    @property
    def size_bytes(self) -> int:
        """Bytes that these elements take in the checkpoint."""
        return ceil_div(self.elements * WEIGHT_BITS[self.dtype], 8)
