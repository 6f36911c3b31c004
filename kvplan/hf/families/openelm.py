"""Apple's OpenELM: every layer has heads and a width of its own (its own modeling_openelm.py)."""

from __future__ import annotations

from collections.abc import Sequence

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import Layer, Model
from kvplan.hf.blocks.mlp import MLP
from kvplan.hf.config import MAX_SIZE, Config, Figure, UncountedError
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import Style, model, norms
from kvplan.hf.layers import layer_count

_OPENELM = Style(
    layers=("num_transformer_layers", "num_hidden_layers"),
    hidden=("model_dim",),
    norms=("attn_norm", "ffn_norm"),
    root="transformer.layers",
    final="transformer.norm",
    ends=("transformer.token_embeddings", "lm_head"),
    tie=True,
    tie_keys=("share_input_output_layers",),
)


def _openelm(config: Config) -> Model:
    """``num_query_heads`` and ``num_kv_heads`` are lists, one entry a layer."""
    config.ignore("qkv_multipliers")
    count, width = layer_count(config, *_OPENELM.layers), config.count("head_dim")
    queries, keys = (_heads(config, key, count) for key in ("num_query_heads", "num_kv_heads"))
    groups, normed = config.maybe("num_gqa_groups"), config.flag("normalize_qk_projections")
    if groups is not None and any(q != k * groups for q, k in zip(queries, keys, strict=True)):
        config.refuse("num_query_heads is not num_gqa_groups × num_kv_heads on every layer")
    layers = [
        Attention(
            heads=heads,
            kv=kv,
            width=width,
            fused="qkv_proj",
            out="out_proj",
            root="attn",
            qk_norm="head" if normed else "",
        )
        for heads, kv in zip(queries, keys, strict=True)
    ]

    def others() -> Sequence[Layer]:
        if not config.flag("ffn_with_glu", default=True):
            raise UncountedError("ffn_with_glu is off")
        around, names = norms(_OPENELM), ("proj_1", "proj_2")
        widths = _widths(config, count)
        return [(MLP(width=width, root="ffn", names=names), around) for width in widths]

    return model(config, _OPENELM, [(heads,) for heads in layers], others)


def _heads(config: Config, key: str, layers: int) -> Sequence[Figure]:
    given = config.per_layer(key, config.numbers(key), layers)
    if given is None:
        config.missing(key)
    return [config.within(key, number, 1, MAX_SIZE) for number in given]


def _widths(config: Config, layers: int) -> list[int]:
    """``ffn_multipliers`` x ``model_dim`` to the nearest multiple of ``ffn_dim_divisor``.

    One that falls below nine tenths is raised by one step (make_divisible of MobileNet).
    """
    factors = config.per_layer("ffn_multipliers", config.floats("ffn_multipliers"), layers)
    if factors is None:
        config.uncounted("ffn_multipliers")
    hidden, step = config.size("model_dim"), config.size("ffn_dim_divisor")
    widths = []
    for factor in factors:
        exact = factor * hidden
        width = max(step, int(exact + step / 2) // step * step)
        widths.append(width + step if width < 0.9 * exact else width)
    return widths


FAMILIES: dict[str, Family] = {"openelm": Family(read=_openelm)}
