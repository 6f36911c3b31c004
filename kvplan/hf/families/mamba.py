"""Mamba and Mamba-2 without any attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvplan.hf.blocks.base import Block, Layer, Model
from kvplan.hf.config import Config
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import Style, model, norms
from kvplan.hf.families.states import expanded, mamba1, mamba2
from kvplan.hf.layers import layer_count

BACKBONE = Style(
    norms=("norm",),
    final="backbone.norm_f",
    root="backbone.layers",
    ends=("backbone.embeddings", "lm_head"),
)
_BIASES = ("use_bias", "use_conv_bias")
_RANK = "time_step_rank"


def _mamba(config: Config) -> Model:
    """The inner width is ``expand x hidden_size`` (MambaConfig)."""
    given, inner = config.maybe("intermediate_size", "d_inner"), expanded(config, "expand")
    if given is not None and given != inner:
        config.refuse(f"{given.origin} is {given}, not expand × hidden_size")
    state = mamba1(
        config, inner, state="state_size", conv="conv_kernel", rank=_RANK, biases=_BIASES
    )
    return _throughout(config, state, tie=True)


def _falcon_mamba(config: Config) -> Model:
    """The inner width is ``intermediate_size`` (FalconMambaConfig).

    falcon-mamba-7b names an ``expand`` of 16 that nothing uses.
    """
    inner = config.count("intermediate_size")
    config.ignore("expand")
    state = mamba1(
        config, inner, state="state_size", conv="conv_kernel", rank=_RANK, biases=_BIASES
    )
    return _throughout(config, state, tie=True)


def _mamba2(config: Config) -> Model:
    """``num_heads x head_dim`` is ``expand x hidden_size`` (Mamba2Config)."""
    state = mamba2(
        config,
        heads="num_heads",
        width="head_dim",
        groups="n_groups",
        state="state_size",
        conv="conv_kernel",
        biases=_BIASES,
    )
    if state.heads * state.width != expanded(config, "expand"):
        config.refuse("num_heads × head_dim is not expand × hidden_size")
    return _throughout(config, replace(state, root="mixer"), tie=False)


def _throughout(config: Config, mixer: Block, *, tie: bool) -> Model:
    """One mixer and one norm a layer."""
    count = layer_count(config)

    def others() -> Sequence[Layer]:
        return [(norms(BACKBONE),)] * count

    return model(config, replace(BACKBONE, tie=tie), [(mixer,)] * count, others)


FAMILIES: dict[str, Family] = {
    "mamba": Family(read=_mamba),
    "falcon_mamba": Family(read=_falcon_mamba),
    "mamba2": Family(read=_mamba2),
}
