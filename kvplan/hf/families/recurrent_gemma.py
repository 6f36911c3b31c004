"""Google's RecurrentGemma (Griffin): two recurrences to one local attention."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import Layer, Model, Norms
from kvplan.hf.blocks.mlp import MLP
from kvplan.hf.blocks.rwkv import Recurrence
from kvplan.hf.config import MAX_TOKENS, Config, Figure, UncountedError
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import Style, model
from kvplan.hf.families.states import kernel
from kvplan.hf.geometry import MULTI_HEAD, kv_heads, quotient
from kvplan.hf.layers import by_type, layer_count

_STYLE = Style(final="model.final_norm", tie=True)
_WINDOW = ("attention_window_size", "sliding_window")


def _recurrent_gemma(config: Config) -> Model:
    """``block_types`` are repeated over the layers (RecurrentGemmaConfig)."""
    count, heads, hidden = (
        layer_count(config),
        config.count("num_attention_heads"),
        config.count("hidden_size"),
    )
    recurrent, local = partial(_recurrence, config, heads, hidden), partial(_local, config, hidden)
    kinds = {
        "recurrent": recurrent,
        "linear_attention": recurrent,
        "attention": local,
        "sliding_attention": local,
    }
    config.ignore(
        "attention_bias", "conv1d_width", "lru_width", *_WINDOW, "final_w_init_variance_scale"
    )
    layers = by_type(config, _types(config, count), kinds)
    return model(config, _STYLE, layers, partial(_others, config, count))


def _types(config: Config, layers: int) -> Sequence[str]:
    whole = config.words("layers_block_type") or config.words("layer_types")
    if whole is not None:
        return config.per_layer("layers_block_type", whole, layers) or whole
    cycle = config.words("block_types") or config.words("_block_types")
    if not cycle:
        config.missing("block_types", "_block_types")
    return [cycle[index % len(cycle)] for index in range(layers)]


def _recurrence(config: Config, heads: Figure, hidden: Figure) -> Layer:
    width = config.maybe("lru_width") or Figure(hidden, "no lru_width: hidden_size")
    if width % heads:
        config.refuse(f"{width.origin} ({width}) is not a multiple of {heads.origin} ({heads})")
    return (Recurrence(width=width, heads=heads, kernel=kernel(config, "conv1d_width")),)


def _local(config: Config, hidden: Figure) -> Layer:
    """Head width is hidden size over heads; the file's own may not differ."""
    count = config.count("num_attention_heads")
    width = quotient(config, hidden, count)
    if (config.maybe("head_dim") or width) != width:
        config.refuse(f"head_dim is not {width.origin}")
    heads = Attention(
        heads=count,
        kv=kv_heads(config, MULTI_HEAD, count),
        width=width,
        bias=config.flag("attention_bias"),
        out_bias=True,
        root="temporal_block",
    )
    return (heads.sliding(config.count(*_WINDOW, most=MAX_TOKENS)),)


def _others(config: Config, layers: int) -> Sequence[Layer]:
    """The MLP is half as wide as ``intermediate_size``, and has biases."""
    total = config.size("intermediate_size")
    if total % 2:
        raise UncountedError(f"intermediate_size {total} is not a multiple of 2")
    norms = Norms(names=("temporal_pre_norm", "channel_pre_norm"))
    return [(MLP(width=total // 2, bias=True, root="mlp_block"), norms)] * layers


FAMILIES: dict[str, Family] = {"recurrent_gemma": Family(read=_recurrent_gemma)}
