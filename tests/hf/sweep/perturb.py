"""Changes to a small config, one at a time: every flag flipped, every figure of a cache another."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator
from typing import Any

LEFT_ALONE = re.compile(
    r"use_cache|output_.*|return_dict|is_decoder|is_encoder_decoder|add_cross_attention|"
    r"chunk_size.*|initializer.*|.*dropout.*|.*router.*logits|norm_topk_prob|scale_.*|"
    r"rope_.*|.*_token.*|use_mambapy|use_mamba_kernels|rescale.*|residual_in_fp32|reorder.*"
)
_OTHER: dict[str, tuple[Any, ...]] = {
    "num_key_value_heads": (1, 4),
    "num_kv_heads": (1, 4),
    "head_dim": (24,),
    "global_head_dim": (48,),
    "num_hidden_layers": (5,),
    "intermediate_size": (80,),
    "vocab_size": (200,),
    "sliding_window": (None, 12),
    "attention_chunk_size": (12,),
    "num_experts": (4,),
    "num_local_experts": (4,),
    "n_routed_experts": (4,),
    "n_shared_experts": (0, 2),
    "num_shared_experts": (0, 2),
    "moe_num_shared_experts": (0, 1),
    "shared_intermediate_size": (0, 48),
    "moe_shared_expert_intermediate_size": (48,),
    "shared_expert_intermediate_size": (0, 48),
    "first_k_dense_replace": (0, 3),
    "num_dense_layers": (0, 3),
    "decoder_sparse_step": (2,),
    "mlp_only_layers": ([0, 2],),
    "moe_layer_freq": (2,),
    "q_lora_rank": (None,),
    "kv_lora_rank": (48,),
    "num_kv_shared_layers": (0, 2),
    "mamba_n_groups": (1,),
    "mamba_d_state": (8,),
    "mamba_d_conv": (3,),
    "conv_L_cache": (4,),
    "linear_conv_kernel_dim": (3,),
    "linear_key_head_dim": (16,),
    "n_inner": (None, 80),
    "expand": (1,),
    "index_head_dim": (8,),
    "full_attention_interval": (2,),
    "conv_kernel": (3,),
    "hidden_size_per_layer_input": (0,),
}

_KEPT = re.compile(
    r"head|layer|window|kv_|mamba|conv|linear_|state|rank|index|interval|expand|chunk|attn|hybrid|"
    r"attention_k|types|per_layer|config"
)
"""Keys that can change what a sequence keeps."""


def changes_caches(keys: Iterable[str]) -> bool:
    """Whether a change of these keys is worth another pass; none is the class as it is made."""
    names = list(keys)
    return not names or any(_KEPT.search(name) for name in names)


def text_class(config_class: type) -> type:
    """The class of the text part."""
    sub_configs = getattr(config_class, "sub_configs", None) or {}
    for key in ("thinker_config", "text_config"):
        if key in sub_configs:
            section = getattr(config_class(), key, None)
            return text_class(type(section)) if section is not None else config_class
    return config_class


def perturbations(config_class: type) -> Iterator[tuple[str, dict[str, Any]]]:
    """A name and the keys of the text part to set, one change each; the first is none."""
    yield "as made", {}
    for field in dataclasses.fields(text_class(config_class)):
        if isinstance(field.default, bool) and not LEFT_ALONE.fullmatch(field.name):
            yield f"{field.name}={not field.default}", {field.name: not field.default}
        for value in _OTHER.get(field.name, ()):
            yield f"{field.name}={value}", {field.name: value}
