"""Weights as a checkpoint stores them: elements by part of the model and dtype."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from kvplan.limits import Count, Input, Limit, Text
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
    "nf4",
    "complex64",
    "int64",
    "int32",
    "int16",
    "int8",
    "int7",
    "int6",
    "int5",
    "int4",
    "int3",
    "int2",
    "int1",
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
    "nf4": 4,
    "complex64": 64,
    "int64": 64,
    "int32": 32,
    "int16": 16,
    "int8": 8,
    "int7": 7,
    "int6": 6,
    "int5": 5,
    "int4": 4,
    "int3": 3,
    "int2": 2,
    "int1": 1,
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
    """Parameters of everything in the checkpoint but draft (MTP) layers, a tied head once.

    ``total`` is None where a tower is not counted. ``language`` are those of the language model
    where towers (``vision``, ``audio``) stand beside it, None where there are none. ``active`` are
    those of the language model that one token uses, None where it varies by token
    (LongCat-Flash's zero experts).
    """

    total: Count | None
    active: Count | None
    language: Count | None = None

    def __post_init__(self) -> None:
        if self.total is None and self.language is None:
            raise ValueError("parameters need a total, or the language model's")
        if self.total is not None and self.of_language > self.total:
            raise ValueError("the language model's parameters cannot be more than the total")
        if self.active and self.active > self.of_language:
            raise ValueError("active parameters cannot be more than the language model's")

    @property
    def of_language(self) -> int:
        """Parameters of the language model."""
        return self.language or self.total or 0

    @property
    def of_towers(self) -> int | None:
        """Parameters of the towers beside it; None where one is not counted."""
        return None if self.total is None else self.total - self.of_language


@dataclass(frozen=True, kw_only=True)
class LoraWidths(Input):
    """Numbers that a LoRA adapter has for one part, for each unit of its rank, over all layers.

    ``copied`` ones are whole on every tensor-parallel GPU, ``divided`` ones are cut with the
    matrices that they are of.
    """

    part: Part
    copied: Annotated[int, Limit(ge=0, le=10**15)]
    divided: Annotated[int, Limit(ge=0, le=10**15)]


@dataclass(frozen=True, kw_only=True)
class StoredWeights(Input):
    """Elements of one dtype in one part of the published checkpoint.

    ``what`` names what is stored beside the parameters themselves: ``scales``, ``zero points``,
    ``order`` (the group of each column), ``shapes``, ``buffers``, or weights ``not in parameters``
    (what the class whose parameters are counted does not build). ``skipped`` are parameters that
    engines do not load, ``packed`` several in one element, nobody knows how many.
    """

    part: Part | None = None
    dtype: WeightDtype
    elements: Count
    what: Text | None = None

    @property
    def is_loaded(self) -> bool:
        """Whether engines load it: a second copy of a tied head is stored, and skipped by them.

        vLLM 0.33.0 model_executor/models/utils.py, AutoWeightsLoader(skip_prefixes=["lm_head."]).
        Skipped as well are keys and values of layers that share others' (models/gemma3n.py:316).
        """
        return self.what != "skipped" and not (self.part == "lm_head" and self.what == "buffers")

    @property
    def size_bytes(self) -> int:
        """Bytes that these elements take in the checkpoint."""
        return ceil_div(self.elements * WEIGHT_BITS[self.dtype], 8)
