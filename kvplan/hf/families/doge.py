"""SmallDoge's Doge: Llama's layers with a mask that is learnt and weighted residuals."""

from __future__ import annotations

from dataclasses import replace

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import Layer, Model, extra, linear, vector
from kvplan.hf.config import Config
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import LLAMA, decoder
from kvplan.hf.families.windows import always

_DOGE = replace(LLAMA, qk_norm="head", uncounted_if=("is_moe",))


def _mask(config: Config, heads: Attention) -> Layer:
    """One figure and one row a KV head decide what is masked (DogeAttention)."""
    hidden, part = config.size("hidden_size"), "attention"
    kv, bias = heads.kv, config.flag("attention_bias")
    return (
        extra(
            vector(part, "self_attn.A", kv),
            linear(part, "self_attn.dt_proj", kv, kv * heads.width, bias=bias),
            vector("other", "input_residual", hidden),
            vector("other", "post_attention_residual", hidden),
        ),
    )


def _doge(config: Config) -> Model:
    """Masked keys are kept all the same, whatever ``keep_window_size`` says."""
    config.ignore("keep_window_size", "num_experts", "num_experts_per_tok")
    return decoder(_DOGE, always, extra=_mask)(config)


FAMILIES: dict[str, Family] = {"doge": Family(read=_doge)}
