"""Snowflake's Arctic: Mixtral's experts, and a small MLP beside them on every layer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from kvplan.hf.blocks.base import Block, Layer, Model, Norms
from kvplan.hf.blocks.mlp import MLP
from kvplan.hf.config import Config
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import PLAIN, Style, decoder, feed_forward
from kvplan.hf.families.experts import MIXTRAL
from kvplan.hf.families.windows import always

_NAMES = MIXTRAL.names


def _sparse(config: Config, layers: int) -> Iterable[int]:
    """Every ``moe_layer_frequency``-th layer (ArcticConfig: 2)."""
    step = config.maybe("moe_layer_frequency") or 2
    return range(step - 1, layers, step)


def _forward(config: Config, style: Style, layers: int) -> Sequence[Block]:
    dense = replace(style, mlp_root="block_sparse_moe.mlp", mlp_names=_NAMES)
    return feed_forward(config, dense, layers, MIXTRAL, _sparse)


def _arctic(config: Config) -> Model:
    """``use_residual`` puts an MLP as wide as the model beside the layers with experts."""
    config.ignore("parallel_attn_mlp_res")
    plain = decoder(PLAIN, always, forward=_forward)(config)

    def others() -> Sequence[Layer]:
        hidden, rest = config.size("hidden_size"), list(plain.others())
        if config.flag("use_residual", default=False):
            beside = MLP(width=hidden, root="residual_mlp", names=_NAMES)
            more: Layer = (beside, Norms(names=("residual_layernorm",)))
            for index in _sparse(config, len(rest)):
                rest[index] = (*rest[index], *more)
        return rest

    return replace(plain, others=others)


FAMILIES: dict[str, Family] = {"arctic": Family(read=_arctic)}
