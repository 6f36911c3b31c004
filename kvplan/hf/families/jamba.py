"""AI21's Jamba: Mamba-1 but for one layer in eight, experts in every second."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

from kvplan.hf.blocks.base import Model
from kvplan.hf.config import Config
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import INPUT, Style, attention, model, others
from kvplan.hf.families.experts import Mixture
from kvplan.hf.families.states import expanded, mamba1
from kvplan.hf.layers import layer_count

_JAMBA = Style(
    norms=(INPUT, "pre_ff_layernorm"), final="model.final_layernorm", mlp_root="feed_forward"
)
_EXPERTS = Mixture(
    count=("num_experts",), width=("intermediate_size",), root="feed_forward", router="router"
)


def _jamba(config: Config) -> Model:
    """Attention where ``i % attn_layer_period == attn_layer_offset`` (JambaConfig)."""
    count, plain = layer_count(config), (attention(config, _JAMBA),)
    period = config.count("attn_layer_period")
    offset = config.count("attn_layer_offset", least=0)
    if offset >= period:
        config.refuse("attn_layer_offset is not within attn_layer_period: no layer would attend")
    mamba = mamba1(
        config,
        expanded(config, "mamba_expand"),
        state="mamba_d_state",
        conv="mamba_d_conv",
        rank="mamba_dt_rank",
        biases=("mamba_proj_bias", "mamba_conv_bias"),
    )
    state = (replace(mamba, normed=True, root="mamba"),)
    layers = [plain if index % period == offset else state for index in range(count)]
    rest = partial(others, config, _JAMBA, count, _EXPERTS, _every_period)
    return model(config, _JAMBA, layers, rest)


def _every_period(config: Config, layers: int) -> Iterable[int]:
    """Experts where ``i % expert_layer_period == expert_layer_offset``; one alone is an MLP."""
    if config.size("num_experts") == 1:
        return ()
    period = config.size("expert_layer_period")
    offset = config.size("expert_layer_offset", least=0)
    return [index for index in range(layers) if index % period == offset]


FAMILIES: dict[str, Family] = {"jamba": Family(read=_jamba)}
