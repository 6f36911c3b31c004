"""Qwen3-Next and Qwen3.5: Gated DeltaNet, and full attention on every fourth layer."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Literal

from kvplan.hf.blocks.base import Model, Reader
from kvplan.hf.config import Config
from kvplan.hf.families.base import Family, Wrapper
from kvplan.hf.families.decoder import attention, model, others
from kvplan.hf.families.experts import QWEN_SHARED, Mixture, every_step
from kvplan.hf.families.qwen import QWEN3
from kvplan.hf.families.qwen_vision import qwen3_vl
from kvplan.hf.families.states import gated_delta_net
from kvplan.hf.layers import (
    FULL,
    LINEAR,
    agree,
    by_type,
    drafts,
    layer_count,
    layer_types,
    one_full_in,
)


def _qwen_next(mixture: Mixture | None, matrices: Literal["joined", "apart"] = "apart") -> Reader:
    """Full every ``full_attention_interval`` layers; an output gate doubles q_proj.

    Source: modeling_qwen3_next.py.
    """

    def read(config: Config) -> Model:
        count, plain = layer_count(config), replace(attention(config, QWEN3), gated=True)
        config.require("use_sliding_window", False)
        config.require("attn_output_gate", True)
        config.ignore("sliding_window" if config.has("use_sliding_window") else "")
        period = config.maybe("full_attention_interval")
        rule = one_full_in(period, LINEAR) if period else None
        types = layer_types(config, count, rule)
        if rule is not None:
            agree(config, "full_attention_interval", types, rule)
        kinds = {
            FULL: lambda: (plain,),
            LINEAR: lambda: (replace(gated_delta_net(config), matrices=matrices),),
        }
        layers = by_type(config, types, kinds)
        draft = [(plain,)] * drafts(config, "mtp_num_hidden_layers")
        rest = partial(others, config, QWEN3, count, mixture, every_step)
        return model(config, QWEN3, layers, rest, draft=draft)

    return read


FAMILIES: dict[str, Family] = {
    "qwen3_next": Family(read=_qwen_next(QWEN_SHARED, "joined")),
    "qwen3_5_text": Family(read=_qwen_next(None)),
    "qwen3_5_moe_text": Family(read=_qwen_next(QWEN_SHARED)),
}

WRAPPERS: dict[str, Wrapper] = {
    "qwen3_5": Wrapper(tower=qwen3_vl),
    "qwen3_5_moe": Wrapper(tower=qwen3_vl),
}
