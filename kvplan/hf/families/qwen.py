"""Qwen-2 and 3 with attention on every layer, dense and with experts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvplan.hf.blocks.base import Block
from kvplan.hf.config import Config, UncountedError
from kvplan.hf.families.base import Beside, Family, Wrapper, each
from kvplan.hf.families.decoder import ATTENTION_BIAS, Style, decoder, mlp
from kvplan.hf.families.experts import QWEN, QWEN_SHARED, every_step
from kvplan.hf.families.qwen_vision import qwen2_5_vl, qwen2_vl, qwen3_vl
from kvplan.hf.families.windows import after_full_layers, mixed, never, unsettled
from kvplan.hf.geometry import DENSE, DIVIDED, OWN_HEAD_DIM, Dialect

QWEN2 = Style(bias=True, out_bias=False)
QWEN3 = Style(
    dialect=OWN_HEAD_DIM, bias=ATTENTION_BIAS, qk_norm="head", qk_norm_key=("use_qk_norm", True)
)
# Qwen3MoeConfig and Qwen3VLMoeTextConfig have no width of their own for a head, and save null
# where nobody gave one.
_QWEN3_MOE = replace(QWEN3, dialect=DENSE)
_QWEN1 = Style(
    dialect=Dialect(kv=(), head_dim=("kv_channels",)),
    bias=True,
    out_bias=False,
    fused="c_attn",
    out="c_proj",
    attn_root="attn",
    norms=("ln_1", "ln_2"),
    final="transformer.ln_f",
    root="transformer.h",
    mlp_names=("w1", "w2", "c_proj"),
    ends=("transformer.wte", "lm_head"),
)
_MELLUM = replace(QWEN, count=("num_experts", "num_local_experts"))
_QWEN3 = Family(read=decoder(QWEN3, after_full_layers))
_QWEN2 = Family(read=decoder(QWEN2, after_full_layers))
_QWEN2_VL = Family(read=decoder(replace(QWEN2, dialect=DIVIDED), after_full_layers))


def _half_as_wide(config: Config, style: Style, layers: int) -> Sequence[Block]:
    """``intermediate_size`` counts gate and up together (its own modeling_qwen.py)."""
    total = config.size("intermediate_size")
    if total % 2:
        config.refuse(f"intermediate_size: {total} is not a multiple of 2")
    if not config.flag("no_bias", default=True):
        raise UncountedError("no_bias is off")
    return [mlp(config, style, width=total // 2)] * layers


FAMILIES: dict[str, Family] = {
    "qwen2": replace(
        _QWEN2,
        architectures=("LlavaQwenForCausalLM",),
    ),
    "qwen2_5_omni_text": _QWEN2,
    **each("qwen2_vl_text qwen2_5_vl_text", _QWEN2_VL),
    **each("qwen2_vl qwen2_5_vl", replace(_QWEN2_VL, sees=True)),
    "qwen2_moe": Family(
        read=decoder(replace(QWEN2, bias=("qkv_bias", True)), unsettled, QWEN_SHARED, every_step)
    ),
    "qwen3": _QWEN3,
    "qwen3_vl_text": Family(read=decoder(QWEN3)),
    "qwen3_moe": Family(read=decoder(_QWEN3_MOE, unsettled, QWEN, every_step)),
    "qwen3_vl_moe_text": Family(read=decoder(_QWEN3_MOE, never, QWEN, every_step)),
    "qwen3_omni_moe_text": Family(read=decoder(QWEN3, never, QWEN, every_step)),
    "qwen3_asr_text": Family(read=decoder(QWEN3)),
    "dots_ocr": replace(_QWEN2, classes=("dotsocr",), sees=True),
    "KeyeVL": replace(_QWEN3, classes=("keye",), sees=True),
    "KeyeVL1_5": replace(_QWEN3, classes=("keyevl15",), sees=True),
    "isaac": replace(_QWEN3, sees=True),
    "mellum": Family(read=decoder(QWEN3, mixed(), _MELLUM, every_step)),
    "qwen": Family(read=decoder(_QWEN1, forward=_half_as_wide), classes=("qwenlmhead", "qwenvl")),
}

WRAPPERS: dict[str, Wrapper] = {
    "isaac": Wrapper(
        optional=True, text="qwen3", beside=(Beside("vision_config", "vision tower"),)
    ),
    "qwen2_vl": Wrapper(optional=True, text="qwen2_vl_text", tower=qwen2_vl),
    "qwen2_5_vl": Wrapper(optional=True, text="qwen2_5_vl_text", tower=qwen2_5_vl),
    "qwen2_5_omni": Wrapper(
        path=("thinker_config", "text_config"),
        text="qwen2_5_omni_text",
        classes=("qwen25omni", "qwen25omnithinker"),
    ),
    "qwen3_vl": Wrapper(tower=qwen3_vl),
    "qwen3_vl_moe": Wrapper(tower=qwen3_vl),
    "qwen3_omni_moe": Wrapper(path=("thinker_config", "text_config")),
    "qwen2_audio": Wrapper(beside=(Beside("audio_config", "audio tower"),), can_tie=False),
}
