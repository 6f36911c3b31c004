"""xAI's Grok-1 and 2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import Block, Layer
from kvplan.hf.config import Config
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import Style, attention, decoder, mlp
from kvplan.hf.families.experts import MIXTRAL, experts
from kvplan.hf.geometry import OWN_HEAD_DIM

_STYLE = Style(
    dialect=OWN_HEAD_DIM,
    norms=("pre_attn_norm", "post_attn_norm", "pre_moe_norm", "post_moe_norm"),
)


def _heads(config: Config, style: Style) -> Attention:
    """Full attention; ``sliding_window_size`` -1 is none."""
    config.require("sliding_window_size", -1)
    config.require("global_attn_every_n", 1)
    return attention(config, style)


def _experts(config: Config, _: Style, layers: int) -> Sequence[Block]:
    """Grok-1's are ``intermediate_size`` wide and say nothing of it (xai-org/grok-1 model.py)."""
    second = config.has("residual_moe")
    first = config.has("tie_word_embeddings") and not config.has("moe_intermediate_size")
    if not second and not first:
        config.uncounted("residual_moe", "tie_word_embeddings")
    mixture = replace(
        MIXTRAL,
        count=("num_local_experts", "num_experts"),
        width=("moe_intermediate_size" if second else "intermediate_size",),
    )
    return [experts(config, mixture, layers)] * layers


def _residual(config: Config, _: Attention) -> Layer:
    """Grok-2's dense MLP beside the experts."""
    return (mlp(config, _STYLE),) if config.flag("residual_moe") else ()


FAMILIES: dict[str, Family] = {
    "grok": Family(
        read=decoder(_STYLE, heads=_heads, forward=_experts, extra=_residual),
        architectures=("Grok1ForCausalLM", "Grok1ModelForCausalLM"),
    ),
}
