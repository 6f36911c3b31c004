"""Hypothetical quantisations of a 16-bit checkpoint: which parts change, and into which rows.

Formats are rows of a table. Bits are those of the files that the named quantiser writes; which
parts it leaves alone is its default.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kvplan.errors import UsageError, nearest
from kvplan.stored import Part, StoredWeights, WeightDtype
from kvplan.units import ceil_div

# llm-compressor quantises every torch.nn.Linear, and its recipes ignore lm_head, routers and
# towers; ModelOpt's _default_disabled_quantizer_cfg disables lm_head, routers and the convolutions
# of recurrent layers. Published NVFP4 files of MLA models leave more of attention in 16 bit.
_LINEAR_LAYERS: frozenset[Part] = frozenset(
    {
        "attention",
        "attention_down",
        "dense_mlp",
        "routed_experts",
        "shared_experts",
        "recurrent",
    }
)
# llama.cpp src/llama-quant.cpp, tensor_allows_quantization: every matrix but routers, norms,
# convolutions and Gemma-3n's small projections. What is of one dimension, and a router, is F32
# (convert_hf_to_gguf.py); towers are in a file of their own.
_MATRICES: frozenset[Part] = _LINEAR_LAYERS | {"embedding", "lm_head", "indexer"}
_SINGLE_PRECISION: frozenset[Part] = frozenset({"norm", "router"})

_KEPT = (
    "embedding, output head, routers, norms, indexers and towers stay as served, "
    "as llm-compressor and ModelOpt leave them by default"
)
_PURE = (
    "every matrix has this type, embedding and output head too, as llama-quantize --pure writes "
    "it; norms and routers are fp32, towers stay as served"
)


@dataclass(frozen=True)
class Field:
    """``count`` elements of one dtype for every ``weights`` weights that are quantised."""

    dtype: WeightDtype
    count: int = 1
    weights: int = 1
    what: str | None = None


@dataclass(frozen=True)
class Quantizer:
    """How a named quantisation stores the ``parts`` that it touches, and a sentence on the rest.

    Parts are known and shapes are not: a bias or a convolution in a part is counted as if it were
    quantised too. For Qwen2.5-7B's 129,024 biases in int4 that is 191,016 B of 5.6 GB.
    """

    name: str
    fields: tuple[Field, ...]
    parts: frozenset[Part]
    about: str
    single_precision: frozenset[Part] = frozenset()
    """Parts that its files keep in fp32."""

    def rows(self, row: StoredWeights) -> Iterator[StoredWeights]:
        """The row of one part quantised: its weights first, then what is stored beside them."""
        for field in self.fields:
            yield StoredWeights(
                part=row.part,
                dtype=field.dtype,
                elements=ceil_div(row.elements * field.count, field.weights),
                what=field.what or row.what,
            )


def quantizer(name: str) -> Quantizer:
    """The quantisation of this name, in capitals or not. Raises UsageError for any other."""
    known = QUANTIZERS.get(name.lower())
    if known is None:
        near = nearest(name.lower(), QUANTIZERS, 2)
        hint = f"did you mean {' or '.join(near)}?" if near else f"one of: {', '.join(QUANTIZERS)}"
        raise UsageError(f"no quantization is called {name!r}", hint)
    return known


def _scales(dtype: WeightDtype, count: int, weights: int) -> Field:
    return Field(dtype, count, weights, "scales")


def _linear(name: str, about: str, *fields: Field) -> Quantizer:
    return Quantizer(name, fields, _LINEAR_LAYERS, f"linear layers are {about}; {_KEPT}")


_ENGINES = (
    _linear("fp8", "in fp8 with a scale a matrix, whose few bytes are not counted", Field("fp8")),
    # AutoAWQ's WQLinear_GEMM: qweight, scales and qzeros. GPTQ packs the same, and an int32 for
    # every column (g_idx), which depends on the shape: 0.03 bits a weight for 1,024 rows.
    _linear(
        "int4",
        "in int4 with an fp16 scale and a 4-bit zero point for 128 weights, as AWQ packs them",
        Field("int4"),
        _scales("fp16", 1, 128),
        Field("int4", 1, 128, "zero points"),
    ),
    _linear(
        "nvfp4",
        "in fp4 with an fp8 scale for 16 weights; the fp32 scales of whole matrices are not "
        "counted",
        Field("fp4"),
        _scales("fp8", 1, 16),
    ),
    _linear(
        "mxfp4", "in fp4 with an e8m0 scale for 32 weights", Field("fp4"), _scales("e8m0", 1, 32)
    ),
)


def _high_bits(count: int, weights: int) -> Field:
    return Field("uint8", count, weights, "high bits")


# llama.cpp ggml/src/ggml-common.h, the members of each block_*; K types and the others of 256 need
# columns that divide by 256, llama-quantize takes a type of 32 for those that do not.
_LLAMA_CPP: dict[str, tuple[Field, ...]] = {
    "q8_0": (Field("int8"), _scales("fp16", 1, 32)),
    "q6_k": (Field("int4"), _high_bits(64, 256), _scales("int8", 16, 256), _scales("fp16", 1, 256)),
    "q5_k": (
        Field("int4"),
        _high_bits(32, 256),
        _scales("uint8", 12, 256),
        _scales("fp16", 2, 256),
    ),
    "q5_1": (Field("int4"), _high_bits(4, 32), _scales("fp16", 2, 32)),
    "q5_0": (Field("int4"), _high_bits(4, 32), _scales("fp16", 1, 32)),
    "q4_k": (Field("int4"), _scales("uint8", 12, 256), _scales("fp16", 2, 256)),
    "q4_1": (Field("int4"), _scales("fp16", 2, 32)),
    "q4_0": (Field("int4"), _scales("fp16", 1, 32)),
    "iq4_nl": (Field("int4"), _scales("fp16", 1, 32)),
    "iq4_xs": (Field("int4"), _scales("uint8", 6, 256), _scales("fp16", 1, 256)),
    "q3_k": (
        Field("int2"),
        _high_bits(32, 256),
        _scales("uint8", 12, 256),
        _scales("fp16", 1, 256),
    ),
    "iq3_s": (
        Field("int2"),
        _high_bits(40, 256),
        _scales("uint8", 4, 256),
        _scales("fp16", 1, 256),
    ),
    "iq3_xxs": (Field("int2"), _high_bits(32, 256), _scales("fp16", 1, 256)),
    "q2_k": (Field("int2"), _scales("uint8", 16, 256), _scales("fp16", 2, 256)),
    "iq2_s": (Field("int2"), _high_bits(8, 256), _scales("uint8", 8, 256), _scales("fp16", 1, 256)),
    "iq2_xs": (Field("int2"), _scales("uint8", 8, 256), _scales("fp16", 1, 256)),
    "iq2_xxs": (Field("int2"), _scales("fp16", 1, 256)),
}

QUANTIZERS: dict[str, Quantizer] = {quantizer.name: quantizer for quantizer in _ENGINES} | {
    name: Quantizer(name, fields, _MATRICES, _PURE, _SINGLE_PRECISION)
    for name, fields in _LLAMA_CPP.items()
}
"""Every quantisation by its name, for a list of them as well."""
