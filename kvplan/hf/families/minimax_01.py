"""MiniMax-01 and M1: lightning attention, full attention in every eighth layer, experts."""

from __future__ import annotations

from collections.abc import Sequence

from kvplan.hf.blocks.base import Layer, Model
from kvplan.hf.blocks.recurrent import Lightning
from kvplan.hf.config import Config, UncountedError
from kvplan.hf.families.base import Family, each
from kvplan.hf.families.decoder import PLAIN, attention, model, others
from kvplan.hf.families.experts import MIXTRAL
from kvplan.hf.families.states import state_dtype
from kvplan.hf.layers import (
    FULL,
    LINEAR,
    Rule,
    agree,
    by_type,
    layer_count,
    layer_types,
    zero_or_one,
)


def _minimax_01(config: Config) -> Model:
    """``attn_type_list`` 0 and 1, or ``layer_types`` (MiniMaxConfig)."""
    count, plain = layer_count(config), attention(config, PLAIN)
    flags = config.per_layer("attn_type_list", config.numbers("attn_type_list"), count)
    rule: Rule | None = None
    if flags is not None:
        named = [FULL if zero_or_one(config, "attn_type_list", f) else LINEAR for f in flags]
        rule = lambda index: named[index]  # noqa: E731
    types = layer_types(config, count, rule)
    if rule is not None:
        agree(config, "attn_type_list", types, rule)

    def lightning() -> Layer:
        state = state_dtype(config)
        return (Lightning(heads=plain.heads, width=plain.width, state_dtype=state),)

    def rest() -> Sequence[Layer]:
        if config.maybe("shared_intermediate_size", least=0):
            raise UncountedError("shared_intermediate_size is set, which no published file has")
        return others(config, PLAIN, count, MIXTRAL)

    layers = by_type(config, types, {FULL: lambda: (plain,), LINEAR: lightning})
    return model(config, PLAIN, layers, rest)


FAMILIES: dict[str, Family] = {
    **each("minimax minimax_text_01 minimax_m1", Family(read=_minimax_01))
}
