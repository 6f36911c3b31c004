"""NVIDIA's Nemotron, and Llama-Nemotron, whose layers a search has thinned out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import Layer, Model, Norms, extra, linear
from kvplan.hf.blocks.mlp import MLP
from kvplan.hf.config import MAX_SIZE, Config, Figure
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import (
    ATTENTION_BIAS,
    INPUT,
    LLAMA,
    MLP_BIAS,
    POST,
    Style,
    decoder,
    model,
)
from kvplan.hf.geometry import DENSE, head_dim
from kvplan.hf.layers import layer_count

_NAS = Style()


def _nemotron_nas(config: Config) -> Model:
    """``block_configs`` by layer: heads over ``n_heads_in_group``, or no attention at all."""
    count, heads = layer_count(config), config.count("num_attention_heads")
    config.ignore("num_key_value_heads")
    raw = config.items("block_configs", dict, "objects")
    listed = config.per_layer("block_configs", raw, count)
    if listed is None:
        config.missing("block_configs")
    width, bias = head_dim(config, DENSE, heads), config.on(ATTENTION_BIAS)
    whole = Attention(heads=heads, kv=heads, width=width, bias=bias, out_bias=bias)
    blocks = [
        Config(block, config.path, config.architecture, f"block_configs[{index}].")
        for index, block in enumerate(listed)
    ]

    def others() -> Sequence[Layer]:
        return [(*_linear_attention(config, block), *_nas_mlp(config, block)) for block in blocks]

    return model(config, _NAS, [_nas_attention(block, whole) for block in blocks], others)


def _nas_attention(block: Config, whole: Attention) -> Layer:
    attention = _section(block)
    for key in ("window_length", "num_sink_tokens", "sparsify"):
        attention.require(key)
    if attention.flag("no_op") or attention.flag("replace_with_linear"):
        return ()
    group = attention.count("n_heads_in_group")
    if whole.heads % group:
        attention.refuse(f"{whole.heads} heads do not divide into groups of {group}")
    origin = "num_attention_heads ÷ block_configs[].attention.n_heads_in_group"
    return (replace(whole, kv=Figure(whole.heads // group, origin)),)


def _section(block: Config) -> Config:
    attention = block.section("attention")
    if attention is None:
        block.missing("attention")
    return attention


def _linear_attention(config: Config, block: Config) -> Layer:
    """The norm before attention, and the one matrix that may stand in its place."""
    attention = _section(block)
    if attention.flag("no_op"):
        return ()
    if not attention.flag("replace_with_linear"):
        return (Norms(names=(INPUT,)),)
    return _matrix(config, "attention", "self_attn.linear_attn", INPUT, config.on(ATTENTION_BIAS))


def _matrix(config: Config, part: str, name: str, norm: str, bias: bool) -> Layer:
    hidden = config.size("hidden_size")
    return (extra(linear(part, name, hidden, hidden, bias=bias)), Norms(names=(norm,)))


def _nas_mlp(config: Config, block: Config) -> Layer:
    """Two thirds of ``ffn_mult`` times hidden size, rounded up to 256 (modeling_decilm.py)."""
    section, bias = block.section("ffn"), config.on(MLP_BIAS)
    if section is None:
        block.uncounted("ffn")
    if section.flag("no_op"):
        return ()
    if section.flag("replace_with_linear"):
        return _matrix(config, "dense_mlp", "mlp.linear_mlp", POST, bias)
    key, factor = section.value("ffn_mult")
    if not key:
        section.uncounted("ffn_mult")
    if type(factor) not in (int, float) or not 0 < factor < MAX_SIZE:
        section.refuse("ffn_mult has to be a number above zero")
    width = -(-int(2 * factor * config.size("hidden_size") / 3) // 256) * 256
    return (MLP(width=width, bias=bias), Norms(names=(POST,)))


FAMILIES: dict[str, Family] = {
    "nemotron": Family(read=decoder(replace(LLAMA, gated=False, norm_bias=True))),
    "nemotron-nas": Family(read=_nemotron_nas, classes=("decilm",)),
}
