"""Qwen-2 and 3 with attention on every layer, dense and with experts."""

from __future__ import annotations

from dataclasses import replace

from kvplan.hf.families.base import Family, Wrapper, each
from kvplan.hf.families.decoder import ATTENTION_BIAS, Style, decoder
from kvplan.hf.families.experts import QWEN, QWEN_SHARED, every_step
from kvplan.hf.families.windows import after_full_layers, never, unsettled
from kvplan.hf.geometry import OWN_HEAD_DIM

QWEN2 = Style(bias=True, out_bias=False)
QWEN3 = Style(
    dialect=OWN_HEAD_DIM, bias=ATTENTION_BIAS, qk_norm="head", qk_norm_key=("use_qk_norm", True)
)
_QWEN2 = Family(read=decoder(QWEN2, after_full_layers))

FAMILIES: dict[str, Family] = {
    "qwen2": replace(
        _QWEN2,
        architectures=("LlavaQwenForCausalLM",),
        nested_class="Qwen2Config",
        nested={
            "hidden_size": 4096,
            "num_hidden_layers": 32,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
        },
    ),
    **each("qwen2_vl_text qwen2_5_vl_text qwen2_5_omni_text", _QWEN2),
    **each("qwen2_vl qwen2_5_vl", replace(_QWEN2, sees=True)),
    "qwen2_moe": Family(
        read=decoder(replace(QWEN2, bias=("qkv_bias", True)), unsettled, QWEN_SHARED, every_step)
    ),
    "qwen3": Family(read=decoder(QWEN3, after_full_layers)),
    "qwen3_vl_text": Family(read=decoder(QWEN3)),
    "qwen3_moe": Family(read=decoder(QWEN3, unsettled, QWEN, every_step)),
    "qwen3_vl_moe_text": Family(read=decoder(replace(QWEN3), never, QWEN, every_step)),
    "mimo": Family(
        read=decoder(Style(bias=("attention_bias", True), out_bias=False), after_full_layers)
    ),
}

WRAPPERS: dict[str, Wrapper] = {
    "qwen2_vl": Wrapper(optional=True, text="qwen2_vl_text", ties=False),
    "qwen2_5_vl": Wrapper(optional=True, text="qwen2_5_vl_text", ties=False),
    "qwen2_5_omni": Wrapper(
        path=("thinker_config", "text_config"),
        text="qwen2_5_omni_text",
        classes=("qwen25omni", "qwen25omnithinker"),
    ),
}
