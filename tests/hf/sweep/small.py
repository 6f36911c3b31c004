"""Small but coherent configs of every decoder class that transformers has.

A class's defaults are shrunk key by key: what a key means decides its size, the same one for
every class, so that heads, widths and ranks keep fitting one another.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib
import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import transformers
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

LAYERS, WINDOW = 6, 8
_SIZES: tuple[tuple[str, int], ...] = (
    (r"(num_hidden_layers|n_layers?|num_layers|(en|de)coder_layers|depth)", LAYERS),
    (r"(num_attention_heads|n_heads?|num_heads|(en|de)coder_attention_heads)", 4),
    (r"(num_key_value_heads|num_kv_heads|n_head_kv|num_global_key_value_heads)", 2),
    (r"(head_dim|attention_head_dim|kv_channels|d_kv|head_size)", 16),
    (r"global_head_dim", 32),
    (r"(hidden_size|d_model|n_embd|n_embed|embed_dim|hidden_dim|dim|word_embed_proj_dim)", 64),
    (r"(out_hidden_size|vision_output_dim|text_hidden_size|attention_hidden_size)", 64),
    (r"(hidden_size_per_layer_input|altup_coef_clip|laurel_rank)", 8),
    (r"(moe_intermediate_size|expert_ffn_hidden_size|expert_dim|expert_hidden_size)", 24),
    (r"(moe_)?shared_.*intermediate_size", 40),
    (r"(dense_|prefix_dense_)?intermediate_size(_mlp)?", 96),
    (r"(ffn_dim|n_inner|ffn_hidden_size|(en|de)coder_ffn_dim|mlp_dim|block_ff_dim)", 96),
    (r"vocab_size.*", 160),
    (r"(num_experts|num_local_experts|n_routed_experts|moe_num_experts)", 8),
    (r"(num_experts_per_(tok|token)|moe_topk|moe_k|moe_top_k|top_k_experts|router_top_k)", 2),
    (r"(n_group|topk_group|num_expert_group)", 1),
    (r"kv_lora_rank", 32),
    (r"(q_lora_rank|o_lora_rank)", 24),
    (r"qk_nope_head_dim", 16),
    (r"qk_rope_head_dim", 8),
    (r"qk_head_dim", 24),
    (r"v_head_dim", 16),
    (r"(max_position_embeddings|n_positions|n_ctx|max_seq_len|max_target_positions)", 512),
    (
        r"(sliding_window|attention_window|attention_chunk_size|window_size|.*_sliding_window)",
        WINDOW,
    ),
    (r"index_head_dim", 16),
    (r"index_n_heads", 2),
    (r"index_topk", 8),
    (r"linear_num_key_heads", 2),
    (r"(linear_num_value_heads|linear_num_heads)", 4),
    (r"linear_(key_|value_)?head_dim", 8),
    (r"(mamba_n_heads|n_mamba_heads|mamba_num_heads)", 8),
    (r"(mamba_d_head|mamba_head_dim|mamba_headdim)", 16),
    (r"(mamba_d_state|ssm_state_size|state_size)", 16),
    (r"(mamba_n_groups|mamba_ngroups|n_groups)", 2),
    (r"image_size", 32),
    (r"patch_size", 8),
    (r"(first_k_dense_replace|num_dense_layers|num_hash_layers)", 1),
)
_PATTERNS = [(re.compile(pattern), size) for pattern, size in _SIZES]
_TOKEN = re.compile(r".*_token_(id|index)|.*_token_ids")

# What a class wants otherwise, by model type.
OWN: dict[str, dict[str, Any]] = {
    "jamba": {"num_hidden_layers": 8, "mamba_dt_rank": 4},
    "bamba": {"attn_layer_indices": [1, 4]},
    "mamba2": {"num_heads": 8, "head_dim": 16},
    "dots1": {
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "n_shared_experts": 1,
        "max_window_layers": 4,
    },
    "gemma3n_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 3,
        "num_kv_shared_layers": 2,
        "activation_sparsity_pattern": [0.0] * 6,
    },
    "gemma4_text": {"layer_types": ["sliding_attention", "full_attention"] * 3},
    "deepseek_v4": {"num_key_value_heads": 1},
    "deepseek_v2": {"n_routed_experts": 8, "num_experts_per_tok": 2},
    "hunyuan_v1_dense": {"head_dim": 16},
    "hunyuan_v1_moe": {"head_dim": 16, "moe_topk": 2},
    "ministral": {"head_dim": 16},
    "nemotron": {"head_dim": 16},
    "gptj": {"rotary_dim": 8},
    "mllama_text_model": {"cross_attention_layers": [1, 3]},
    "ernie4_5_vl_moe_text": {"moe_num_experts": 8, "moe_intermediate_size": [24, 16]},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 3, "block_multiple_of": 32},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 3},
    "falcon_h1": {"mamba_d_ssm": 128},
    "granitemoehybrid": {"layer_types": ["mamba", "mamba", "attention"] * 2},
    "zamba2": {
        "attention_head_dim": 32,
        "layers_block_type": ["mamba", "hybrid", "mamba", "mamba", "hybrid", "mamba"],
        "adapter_rank": 4,
    },
}


@dataclass(frozen=True)
class Decoder:
    """One class of transformers that makes text, and the class of its config."""

    model_class: str
    config_class: type
    model_type: str


def decoders() -> Iterator[Decoder]:
    """Every class with a causal language model inside, the plain ones first."""
    names = ("CAUSAL_LM", "IMAGE_TEXT_TO_TEXT", "MULTIMODAL_LM", "SPEECH_SEQ_2_SEQ")
    seen: set[str] = set()
    for name in names:
        table = getattr(modeling_auto, f"MODEL_FOR_{name}_MAPPING_NAMES")
        for classes in table.values():
            for model_class in (classes,) if isinstance(classes, str) else classes:
                found = getattr(transformers, model_class, None)
                if found is None or model_class in seen or found.config_class is None:
                    continue
                seen.add(model_class)
                yield Decoder(model_class, found.config_class, found.config_class.model_type)


def small(config_class: type, layers: int = LAYERS) -> dict[str, Any]:
    """Keyword arguments of a small config of this class, with its sections."""
    kwargs: dict[str, Any] = {}
    heads = getattr(config_class, "num_attention_heads", None)
    for field in dataclasses.fields(config_class):
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        value = _small(field.name, default, layers)
        if value is not None:
            kwargs[field.name] = value
        if default == heads and field.name == "num_key_value_heads":
            kwargs[field.name] = 4
        if field.name in ("rope_parameters", "rope_scaling"):
            kwargs |= _rotary(config_class, field.name)
    kwargs |= _sections(config_class)
    return kwargs | copy.deepcopy(OWN.get(getattr(config_class, "model_type", ""), {}))


def _small(name: str, default: Any, layers: int) -> Any:
    if _TOKEN.fullmatch(name) and isinstance(default, int):
        return default % 100
    if isinstance(default, bool) or not isinstance(default, int):
        return None
    for pattern, size in _PATTERNS:
        if pattern.fullmatch(name):
            return layers if (size == LAYERS and "ayer" in name) or name == "depth" else size
    return None


def _rotary(config_class: type, key: str) -> dict[str, Any]:
    """Sections of a head's width for time, height and width, shrunk with the head."""
    module = config_class.__module__.replace("configuration_", "modeling_")
    try:
        if "mrope_section" not in inspect.getsource(importlib.import_module(module)):
            return {}
        rotary = getattr(config_class(), key, None)
    except Exception:  # noqa: BLE001 - it has no source, or cannot be made without arguments
        return {}
    if not isinstance(rotary, dict):
        return {}
    parts = [4, 2, 2] if rotary.get("partial_rotary_factor", 1) == 1 else [2, 1, 1]
    return {key: {**rotary, "mrope_section": parts}}


def _sections(config_class: type) -> dict[str, Any]:
    sub_configs = getattr(config_class, "sub_configs", None) or {}
    made = config_class() if sub_configs else None
    found: dict[str, Any] = {}
    for key in sub_configs:
        section = getattr(made, key, None)
        if section is None:
            continue
        layers = LAYERS if key in ("text_config", "thinker_config", "decoder") else 2
        found[key] = {"model_type": section.model_type, **small(type(section), layers)}
    return found


def made(decoder: Decoder, changes: dict[str, Any] | None = None) -> Any:
    """The small config of this class, with these keys changed in its text part."""
    kwargs = small(decoder.config_class)
    place = kwargs
    for key in ("thinker_config", "text_config"):
        place = place.get(key, place)
    place.update(copy.deepcopy(changes or {}))
    for key, value in (changes or {}).items():
        if key == "tie_word_embeddings":
            kwargs[key] = value
    config = decoder.config_class(**kwargs)
    config.architectures = [decoder.model_class]
    return config


def saved(config: Any) -> dict[str, Any]:
    """The config.json that save_pretrained writes."""
    return {**json.loads(config.to_json_string(use_diff=True)), "dtype": "bfloat16"}


def loaded(raw: dict[str, Any]) -> Any:
    """The config that transformers reads from this file."""
    config_class = CONFIG_MAPPING[raw["model_type"]]
    return config_class.from_dict(copy.deepcopy(raw))
