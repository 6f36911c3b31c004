"""Tables of rotary positions, which vLLM 0.33.0 keeps whole on every GPU beside the weights.

layers/rotary_embedding/base.py:62 makes one of cosines and sines for every position, in the model's
dtype; __init__.py:73 keeps one for equal arguments. What a class rotates of a head is its own
affair: a spec does not say it, so that classes which do otherwise are named here. Paths are of
vLLM's package.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from kvplan.kinds import CacheKind
from kvplan.kinds.full_attention import AttentionHeads
from kvplan.kinds.mla import LatentAttention
from kvplan.spec import ModelSpec

_WHOLE = Fraction(1)
_BYTES = 2


@dataclass(frozen=True, kw_only=True)
class _Rotation:
    """What a class rotates: a share of each head, in tables of its own number, length and dtype."""

    share: Fraction = _WHOLE
    tables: int = 1
    positions: int = 1
    """Entries of a table for each position."""
    number_bytes: int = _BYTES


_NONE = _Rotation(tables=0)
_HALF = _Rotation(share=Fraction(1, 2))
_QUARTER = _Rotation(share=Fraction(1, 4))
_LOCAL_AND_GLOBAL = _Rotation(tables=2)
_SCALED_GLOBAL = _Rotation(tables=1 + 8)  # linear_scaling_rope.py:90: 8 times the positions
_MROPE = _Rotation(positions=4)  # mrope.py: tables of four times the positions
_QUARTER_MROPE = _Rotation(share=Fraction(1, 4), positions=4)

# Beside each: models/<file> of the class, or the config key that its published checkpoints have.
_CLASSES: dict[str, _Rotation] = {
    **dict.fromkeys(
        (  # learned positions, ALiBi, or none
            *("NemotronHForCausalLM", "JambaForCausalLM", "BloomForCausalLM", "MPTForCausalLM"),
            *("GPT2LMHeadModel", "GPTBigCodeForCausalLM", "OPTForCausalLM"),
            *("WhisperForConditionalGeneration", "KimiLinearForCausalLM"),
        ),
        _NONE,
    ),
    **dict.fromkeys(  # glm4_moe.py:280, minimax_m2.py:198, nemotron.py: partial_rotary_factor
        (
            *("GlmForCausalLM", "Glm4ForCausalLM", "Glm4MoeForCausalLM", "MiniMaxM2ForCausalLM"),
            *("MiniMaxText01ForCausalLM", "MiniMaxM1ForCausalLM", "NemotronForCausalLM"),
        ),
        _HALF,
    ),
    **dict.fromkeys(  # partial_rotary_factor 0.25
        ("Qwen3NextForCausalLM", "StableLmForCausalLM", "GPTNeoXForCausalLM"), _QUARTER
    ),
    **dict.fromkeys(  # partial_rotary_factor 0.25 and mrope_section
        (
            *("Qwen3_5ForConditionalGeneration", "Qwen3_5MoeForConditionalGeneration"),
            *("Qwen3_5ForCausalLM", "Qwen3_5MoeForCausalLM"),
        ),
        _QUARTER_MROPE,
    ),
    **dict.fromkeys(  # classes with SupportsMRoPE
        (
            *("Qwen2VLForConditionalGeneration", "Qwen2_5_VLForConditionalGeneration"),
            *("Qwen3VLForConditionalGeneration", "Qwen3VLMoeForConditionalGeneration"),
            *("Qwen2_5OmniModel", "Qwen3OmniMoeForConditionalGeneration"),
            *("Glm4vForConditionalGeneration", "Glm4vMoeForConditionalGeneration"),
            *("Ernie4_5_VLMoeForConditionalGeneration", "PaddleOCRVLForConditionalGeneration"),
        ),
        _MROPE,
    ),
    **dict.fromkeys(  # gemma3.py, gemma3n.py, olmo2.py: other bases in sliding and in full layers
        (
            *("Gemma3ForCausalLM", "Olmo3ForCausalLM"),
            *("Gemma3nForConditionalGeneration", "Gemma3nForCausalLM"),
        ),
        _LOCAL_AND_GLOBAL,
    ),
    "Gemma3ForConditionalGeneration": _SCALED_GLOBAL,  # rope_scaling: linear, factor 8
    **dict.fromkeys(  # models/llama.py and its kind: head_dim, whole
        (
            *("LlamaForCausalLM", "MistralForCausalLM", "MixtralForCausalLM"),
            *("Mistral3ForConditionalGeneration", "Llama4ForConditionalGeneration"),
            *("Qwen2ForCausalLM", "Qwen2MoeForCausalLM", "Qwen3ForCausalLM"),
            *("Qwen3MoeForCausalLM", "GemmaForCausalLM", "Gemma2ForCausalLM"),
            *("Gemma4ForConditionalGeneration", "Olmo2ForCausalLM", "Starcoder2ForCausalLM"),
            *("CohereForCausalLM", "Cohere2ForCausalLM", "InternLM2ForCausalLM"),
            *("SmolLM3ForCausalLM", "DbrxForCausalLM"),
        ),
        _Rotation(),
    ),
    "GptOssForCausalLM": _Rotation(number_bytes=4),  # gpt_oss.py:114 dtype=torch.float32
}


def table_bytes(spec: ModelSpec) -> int:
    """Bytes of all tables on one GPU; 0 where the context is not bounded."""
    rotation = _CLASSES.get(spec.architecture or "", _Rotation())
    kinds = [kind for kind, _, _ in spec.caches()]
    widths = {width for kind in kinds if (width := _width(kind))}
    # deepseek_v2.py:1175: an indexer has a table of its own, its keys are rotated in another style.
    own = [kind.qk_rope_head_dim for kind in kinds if isinstance(kind, LatentAttention)]
    indexed = any(kind.kind == "index_keys" for kind in kinds)
    numbers = sum(widths) * rotation.tables * rotation.share + (max(own, default=0) * indexed)
    positions = (spec.native_context_tokens or 0) * rotation.positions
    return int(positions * numbers * rotation.number_bytes)


def rotates_as_known(spec: ModelSpec) -> bool:
    """Whether the model's class is one of which it is known what it rotates."""
    latent = all(
        isinstance(kind, LatentAttention) or not _width(kind) for kind, _, _ in spec.caches()
    )
    return latent or (spec.architecture or "") in _CLASSES


def _width(kind: CacheKind) -> int:
    """Elements of a head that may be rotated."""
    if isinstance(kind, LatentAttention):
        return kind.qk_rope_head_dim
    return kind.head_dim if isinstance(kind, AttentionHeads) else 0
