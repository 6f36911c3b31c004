"""Which part of a model a tensor of a checkpoint is, by its name.

Names are those of transformers 5.24.0's classes, of older remote code and of Mistral's and
DeepSeek's own layouts. The first pattern that fits decides; a name that none fits is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from kvplan.hf.headers import StoredTensor
from kvplan.hf.packing import module_name
from kvplan.stored import Part

Omission = Literal[
    "draft (MTP) layers",
    "a speech generator beside the text model",
    "masks and rotary tables",
]
"""What an engine does not load for the model itself, although its tensors are in the files."""

# vLLM 0.33.0's loaders skip them: rotary tables, causal masks of GPT-2 and GPT-NeoX.
_TABLE = re.compile(r"rotary\w*\.(inv_freq|(cos|sin)_cached)$|\.(attn|attention)\.masked_bias$")
_MASK = re.compile(r"\.(attn|attention)\.bias$")
_MASK_DIMENSIONS = 4
_DRAFT = re.compile(r"(model\.|language_model\.)*(mtp|nextn)(_\w+)?\.")
_SPEECH_OUTPUT = re.compile(r"(talker|token2wav|code2wav)\.")
_LAYER = re.compile(r"(?P<root>.*?)(layers|layer|h|blocks|block)\.(?P<index>\d{1,6})\.(?P<rest>.+)")
_MIDLAYER = "midlayer."
"""The one layer of an EAGLE-3 draft (SpecForge modeling/draft/llama3_eagle.py)."""
_TEXT_ROOT = re.compile(
    r"((model|language_model|text_model|transformer|backbone|decoder|thinker|llm|gpt_neox)\.)*"
)
_WHISPER = "model.encoder."
_EXPERT = re.compile(r"\.experts\.\d{1,6}\.")
_CACHED_NAMES = 1 << 14

_VISION = (
    r"vision(_\w+)?|visual\w*|vit\w*|vte|vpm|image_\w+|mm_\w+|multi_modal_\w+|embed_vision|"
    r"siglip\w*|patch_\w+|pre_mm_projector_norm|resampler|mlp1|connector|aligner|sam_\w+|"
    r"(multimodal_)?projector|perceiver\w*"
)
_EMBEDDING = (
    r"\b(embed|embeddings?|embed_\w+|wte|wpe|tok_embeddings|word_embeddings|position_embeddings)$"
)
_TOWERS: tuple[tuple[Part, str], ...] = (
    ("audio", r"audio_\w+|speech_\w+|embed_audio|whisper\w*|conformer\w*|sound_\w+|apm"),
    ("vision", _VISION),
)
_LAYER_PARTS: tuple[tuple[Part, str], ...] = (
    ("indexer", r"\bindexer\b|\bindex_[kq]_"),
    ("norm", r"(\b|_)(\w*norm\w*|ln|ln_\w+|ln\d)(\.\d+)?$"),
    ("shared_experts", r"\bshared_experts?|\bshared_mlp\b|\bshare_expert\b"),
    ("other", r"\b(altup|laurel|per_layer_\w+|hc_\w+|fc\d_latent_proj|layer_scalar)\b"),
    ("router", r"e_score_correction|\bexpert_bias\b|\bmoe_statics\b|\brouter\b|\btid2eid$"),
    ("router", r"(^|\b(mlp|moe|ffn|feed_forward|block_sparse_moe|mixer)\.)gate(\.wg)?$"),
    ("routed_experts", r"\b(local_)?experts?\b|\bexperts_|\bswitch_mlp\b|\bmoe\.\w+_proj$"),
    ("routed_experts", r"\bblock_sparse_moe\.(input|output)_linear$"),
    ("recurrent", r"\blinear_attn\b|\bmamba\w*\b|\bssm\b|conv_?1d|\bA_log$|\bdt_bias$|\brg_lru\b"),
    ("recurrent", r"\bmixer\.((in|out|dt|x)_proj|D)$|\bconv\.\w+$|\blinear_(x|y|out)$"),
    ("attention_down", r"(\b|_)(q_a_proj|kv_a_proj(_with_mqa)?)$|\b(attention\.wq|wkv)_a(_\w+)?$"),
    ("dense_mlp", r"\bcross_attn_mlp_gate$"),
    ("attention", r"attn|attention|\b([qkvo]_proj|qkv_proj|w[qkvo]|wqkv|c_attn)$"),
    ("dense_mlp", r"mlp|feed_forward|\bffn\b|\b(fc[12]|w[123]|(gate|up|down|gate_up)_proj)$"),
    ("dense_mlp", r"\bDenseReluDense\b|\bdense_(h_to_4h|4h_to_h)$"),
)
_END_PARTS: tuple[tuple[Part, str], ...] = (
    ("norm", r"(\b|_)(\w*norm\w*|ln_\w+)$"),
    ("other", r"\b(altup_\w+|per_layer_\w+|hc_\w+)\b"),
    ("embedding", _EMBEDDING),
    ("lm_head", r"\blm_head\b|\b(head|output|output_layer|embed_out)$"),
    ("lm_head", r"^(score(\.\d)?|classifier|qa_outputs|v_head)$"),
    ("other", r"^(model\.)?(fc|d2t|t2d|mask_hidden)$"),
)


def _compiled(rules: tuple[tuple[Part, str], ...]) -> tuple[tuple[Part, re.Pattern[str]], ...]:
    return tuple((part, re.compile(pattern, re.IGNORECASE)) for part, pattern in rules)


_TOWER_RULES = _compiled(tuple((part, rf"(^|\.)({words})(\.|$)") for part, words in _TOWERS))
_LAYER_RULES, _END_RULES = _compiled(_LAYER_PARTS), _compiled(_END_PARTS)


@dataclass(frozen=True)
class Names:
    """What the names of a whole checkpoint tell of each single one."""

    layers: int
    recurrent: frozenset[str]
    """Modules with a state of their own: those that have an ``A_log``."""
    whisper: bool
    tied_shapes: frozenset[tuple[int, ...]]
    """Shapes of the embedding, where the output head is the same matrix."""


def checkpoint_names(tensors: Iterable[StoredTensor], layers: int, *, tied: bool) -> Names:
    """The names of a checkpoint whose model has so many layers without draft (MTP) layers."""
    shapes = {tensor.name: tensor.shape for tensor in tensors}
    ends = {name for name in shapes if not _LAYER.fullmatch(name)} if tied else set()
    embeddings = {name for name in ends if _first(_END_RULES, module_name(name)) == "embedding"}
    return Names(
        layers=layers,
        recurrent=frozenset(
            name.removesuffix(".A_log") for name in shapes if name.endswith(".A_log")
        ),
        whisper=f"{_WHISPER}conv1.weight" in shapes,
        tied_shapes=frozenset(shapes[name] for name in embeddings),
    )


def omission(tensor: StoredTensor, names: Names) -> Omission | None:
    """Why an engine does not load this tensor for the model itself; None where it does."""
    return _omission(_as_first_expert(tensor.name), tensor.shape, names)


def is_second_head(tensor: StoredTensor, names: Names) -> bool:
    """Whether it is an output head that is the embedding again: stored, and not a parameter."""
    return tensor.shape in names.tied_shapes and part(tensor, names) == "lm_head"


def part(tensor: StoredTensor, names: Names) -> Part | None:
    """The part that a tensor is; None where no pattern fits its name."""
    return _part(_as_first_expert(tensor.name), names)


def _as_first_expert(name: str) -> str:
    """The same tensor of the first expert: the patterns are tried once for hundreds of them."""
    return _EXPERT.sub(".experts.0.", name)


@lru_cache(maxsize=_CACHED_NAMES)
def _omission(name: str, shape: tuple[int, ...], names: Names) -> Omission | None:
    layer = _LAYER.fullmatch(name)
    beyond = layer is not None and int(layer["index"]) >= names.layers
    if _DRAFT.match(name) or (layer and beyond and _TEXT_ROOT.fullmatch(layer["root"])):
        return "draft (MTP) layers"
    if _SPEECH_OUTPUT.match(name):
        return "a speech generator beside the text model"
    if _TABLE.search(name) or (_MASK.search(name) and len(shape) == _MASK_DIMENSIONS):
        return "masks and rotary tables"
    return None


@lru_cache(maxsize=_CACHED_NAMES)
def _part(name: str, names: Names) -> Part | None:
    layer = _LAYER.fullmatch(name)
    if names.whisper and name.startswith(_WHISPER):
        return "audio"
    if tower := _first(_TOWER_RULES, layer["root"] if layer else name):
        return tower
    module = module_name(name)
    if module.rpartition(".")[0] in names.recurrent and not module.endswith("_layernorm"):
        return "recurrent"
    if name.startswith(_MIDLAYER):
        return _first(_LAYER_RULES, module)
    if layer is None:
        return _first(_END_RULES, module)
    return _first(_LAYER_RULES, module_name(layer["rest"]))


def _first(rules: Iterable[tuple[Part, re.Pattern[str]]], name: str) -> Part | None:
    return next((named for named, pattern in rules if pattern.search(name)), None)
