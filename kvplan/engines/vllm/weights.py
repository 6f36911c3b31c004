"""Weights as vLLM 0.33.0 lays them out on one GPU: what it logs as "Model loading took".

Paths are of its package. What a checkpoint stores is padded, copied and repacked on its way to a
GPU. Four lines are in no checkpoint: ``tables`` of rotary positions, ``absorbed``, the 16-bit
copies that MLA makes of a quantised matrix, ``rounding`` of the allocator, and ``device``, what
older releases counted with the weights on ROCm.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import ceil

from kvplan.engines.settings import ServerSettings
from kvplan.engines.vllm.device import device_bytes
from kvplan.engines.vllm.experts import capability, expert_bytes
from kvplan.engines.vllm.matrices import matrices
from kvplan.engines.vllm.rotary import rotates_as_known, table_bytes
from kvplan.engines.vllm.stages import share_of_layers
from kvplan.engines.vllm.versions import rules_of
from kvplan.gpu import Gpu
from kvplan.kinds.mla import LatentAttention
from kvplan.parallel import Layout
from kvplan.spec import ModelSpec
from kvplan.stored import WEIGHT_BITS, StoredWeights
from kvplan.units import ceil_div
from kvplan.weights import StageLayers, WeightsLine, on_stage, share_bytes, shared_by

VOCABULARY_PADDING = 64
"""model_executor/layers/vocab_parallel_embedding.py:31 DEFAULT_VOCAB_PADDING_SIZE."""
_VOCABULARY = ("embedding", "lm_head")
_TOWERS = ("vision", "audio")
_COPIED_TOWERS = frozenset(
    {
        "Gemma3nForConditionalGeneration",  # models/gemma3n_mm.py:617 AutoModel.from_config
        "Gemma4ForConditionalGeneration",  # models/gemma4_mm.py:1102
    }
)
"""Others are divided as the language model is (--mm-encoder-tp-mode weights, the default)."""
_IMAGES = frozenset({"image"})
_SEES = {
    "Gemma3ForConditionalGeneration": _IMAGES,
    "Llama4ForConditionalGeneration": _IMAGES,
    "Mistral3ForConditionalGeneration": _IMAGES,
    "PixtralForConditionalGeneration": _IMAGES,
    "KimiK25ForConditionalGeneration": frozenset({"vision_chunk"}),
}
"""What a class's tower is for, where that is not images and videos."""
_NATIVE_FP8 = (8, 9)
_BLOCK = 128
_PLAIN_BITS = 16

_ROCM = "experts padded as on ROCm, and no repacking beyond it"
_UNPADDED = "experts as published, as what a kernel pads of them is not known"

TABLES = "tables"
ABSORBED = "absorbed"
ROUNDING = "rounding"
DEVICE = "device"


@dataclass(frozen=True)
class _Stage:
    """One GPU of a pipeline stage."""

    spec: ModelSpec
    layout: Layout
    gpu: Gpu
    own: StageLayers

    def in_layers(self, size_bytes: int, part: str = "") -> int:
        """Of a part's bytes in all layers, those of this stage's."""
        if self.own.count == self.spec.total_layers:
            return size_bytes
        share = share_of_layers(self.spec, part, self.layout, self.gpu, self.own)
        return ceil(size_bytes * share)


def loaded_weights(
    spec: ModelSpec, layout: Layout, own: StageLayers, settings: ServerSettings, gpu: Gpu
) -> tuple[WeightsLine, ...]:
    """The weights of a GPU whose stage has these layers, part by part."""
    stage = _Stage(spec, layout, gpu, own)
    left_out = _left_out(spec, settings)
    lines = []
    for part, rows in _by_part(spec.weights).items():
        here, in_layers = on_stage(part, own)
        here = here or (part == "embedding" and own.last and _is_tied(spec))
        if here and part not in left_out:
            loaded = _loaded(stage, part, rows)
            lines.append(_in_stage(stage, loaded) if in_layers else loaded)
    if own.draft and own.last and spec.draft_weights:
        lines.append(_draft(stage))
    beside = (*_tables(stage), *_absorbed(stage), _rounding(stage), *_device(stage, settings))
    return (*lines, *(line for line in beside if line.size_bytes))


def _draft(stage: _Stage) -> WeightsLine:
    """The draft (MTP) layers, all of which are on the last stage."""
    parts = _by_part(stage.spec.draft_weights)
    size_bytes = sum(_loaded(stage, part, rows).size_bytes for part, rows in parts.items())
    return WeightsLine("draft", stage.layout.tensor, size_bytes)


def _left_out(spec: ModelSpec, settings: ServerSettings) -> set[str]:
    """Towers that are not loaded, as requests may have none of what they see or hear.

    models/interfaces.py:347 _mark_tower_model, --limit-mm-per-prompt.
    """
    limits = json.loads(settings.limit_mm_per_prompt or "{}")
    none = {name for name, limit in limits.items() if limit in (0, {"count": 0})}
    sees = _SEES.get(spec.architecture or "", _IMAGES | {"video"})
    return {part for part, takes in (("vision", sees), ("audio", {"audio"})) if takes <= none}


def _by_part(rows: Iterable[StoredWeights]) -> dict[str, list[StoredWeights]]:
    parts: dict[str, list[StoredWeights]] = defaultdict(list)
    for row in rows:
        if row.is_loaded:
            parts[row.part or "all"].append(row)
    return parts


def _is_tied(spec: ModelSpec) -> bool:
    """Whether the head is the embedding, of which the last stage then has one more.

    models/llama.py:379: "is_first_rank or (tie_word_embeddings and is_last_rank)".
    """
    loaded = {row.part for row in spec.weights if row.is_loaded}
    return "embedding" in loaded and "lm_head" not in loaded


def _in_stage(stage: _Stage, loaded: WeightsLine) -> WeightsLine:
    size_bytes = stage.in_layers(loaded.size_bytes, loaded.part)
    return WeightsLine(loaded.part, loaded.shared_by, size_bytes, loaded.assumes)


def _loaded(stage: _Stage, part: str, rows: list[StoredWeights]) -> WeightsLine:
    """A part of all layers on one GPU of the tensor group."""
    spec, layout = stage.spec, stage.layout
    rows = list(_repacked(rows, stage.gpu))
    if part == "routed_experts":
        size_bytes = expert_bytes(spec, rows, layout, stage.gpu)
        if size_bytes is not None:
            said = _ROCM if _is_quantized(rows) and capability(stage.gpu) is None else None
            return WeightsLine(part, shared_by(part, layout), size_bytes, said)
    whole = sum(row.size_bytes for row in rows)
    if part in _VOCABULARY:
        whole += _padding_bytes(spec, rows)
    if _is_copied(stage, part):
        return WeightsLine(part, 1, whole)
    said = _UNPADDED if part == "routed_experts" and _is_quantized(rows) else None
    return WeightsLine(part, shared_by(part, layout), share_bytes(spec, part, layout, whole), said)


def _is_quantized(rows: Iterable[StoredWeights]) -> bool:
    own = [row for row in rows if row.what in (None, "packed")]
    return WEIGHT_BITS[max(own, key=_elements).dtype] < _PLAIN_BITS if own else False


def _is_copied(stage: _Stage, part: str) -> bool:
    """Whether every GPU of a tensor group has the whole of a part that is divided elsewhere.

    Shared experts where tokens are divided among GPUs (config/parallel.py:768
    use_sequence_parallel_moe), and towers that transformers' own classes run.
    """
    layout = stage.layout
    if part == "shared_experts":
        return layout.expert_parallel and layout.tensor > 1 and layout.data > 1
    return part in _TOWERS and (stage.spec.architecture or "") in _COPIED_TOWERS


def _padding_bytes(spec: ModelSpec, rows: Iterable[StoredWeights]) -> int:
    """Rows that embedding or head are padded with; none where their number is not known.

    Rows beyond the vocabulary (learned positions, embeddings of each layer) are left as they are.
    """
    if spec.vocab_size is None or spec.hidden_size is None:
        return 0
    matrix = spec.vocab_size * spec.hidden_size
    missing = -spec.vocab_size % VOCABULARY_PADDING * spec.hidden_size
    bits = [WEIGHT_BITS[row.dtype] for row in rows if row.what is None and row.elements >= matrix]
    return ceil_div(missing * max(bits, default=0), 8)


def _repacked(rows: list[StoredWeights], gpu: Gpu) -> Iterator[StoredWeights]:
    """The rows as kernels take them.

    Linear layers: GPTQ's zero points of symmetric weights, and the order of columns that were not
    reordered, are dropped (kernels/linear/mixed_precision/marlin.py:145-172). Below compute
    capability 8.9 Marlin takes fp8 in blocks, with a 16-bit scale for 128 weights of each column in
    place of one for 128 × 128 (quantization/utils/marlin_utils_fp8.py:180-187).
    """
    is_gptq = any(row.what == "order" for row in rows)
    for row in rows:
        if is_gptq and row.part != "routed_experts" and row.what in ("order", "zero points"):
            continue
        if row.what == "scales" and _is_below_fp8(gpu):
            yield _marlin_scales(row, rows)
        else:
            yield row


def _is_below_fp8(gpu: Gpu) -> bool:
    own = capability(gpu)
    return own is not None and own < _NATIVE_FP8


def _marlin_scales(scales: StoredWeights, rows: Iterable[StoredWeights]) -> StoredWeights:
    fp8 = sum(row.elements for row in rows if row.what is None and row.dtype == "fp8")
    if not fp8 or fp8 // scales.elements < _BLOCK * _BLOCK // 2:
        return scales
    return StoredWeights(
        part=scales.part, dtype="bf16", elements=ceil_div(fp8, _BLOCK), what="scales"
    )


def _absorbed(stage: _Stage) -> Iterator[WeightsLine]:
    """MLA's W_UK and W_UV in 16 bit, which are views of kv_b_proj where that is 16-bit itself.

    layers/attention/mla_attention.py:1270-1341; utils/quant_utils.py:513 makes a copy of what is
    quantised, and the quantised matrix stays for prefill.
    """
    rows = [row for row in stage.spec.weights if row.part == "attention" and row.is_loaded]
    if not _is_quantized(rows):
        return
    elements = 0
    for kind, layers, _ in stage.spec.caches():
        if isinstance(kind, LatentAttention):
            heads = ceil_div(kind.num_attention_heads, stage.layout.tensor)
            width = kind.qk_nope_head_dim + kind.v_head_dim
            elements += layers * heads * width * kind.kv_lora_rank
    size_bytes = stage.in_layers(elements * _PLAIN_BITS // 8)
    yield WeightsLine(ABSORBED, stage.layout.tensor, size_bytes)


def _elements(row: StoredWeights) -> int:
    return row.elements


def _tables(stage: _Stage) -> Iterator[WeightsLine]:
    said = None if rotates_as_known(stage.spec) else "heads that are rotated whole"
    yield WeightsLine(TABLES, 1, table_bytes(stage.spec), said)


def _rounding(stage: _Stage) -> WeightsLine:
    """What torch's allocator counts beyond the matrices, of those whose shapes are known."""
    large = matrices(stage.spec, stage.layout, stage.gpu)
    size_bytes = sum(matrix.rounding_bytes for matrix in large)
    return WeightsLine(ROUNDING, 1, stage.in_layers(size_bytes))


def _device(stage: _Stage, settings: ServerSettings) -> Iterator[WeightsLine]:
    """What a release that asks the device counts beyond what is allocated."""
    if capability(stage.gpu) is None and rules_of(settings).counts_device:
        layers, once, said = device_bytes(stage.spec, stage.layout, stage.gpu)
        yield WeightsLine(DEVICE, 1, stage.in_layers(layers) + once, said)
