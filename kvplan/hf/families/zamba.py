"""Zyphra's Zamba and Zamba2: Mamba throughout, and transformer layers that many layers share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import Again, Extra, Layer, Model, Norms, linear
from kvplan.hf.blocks.ends import tied
from kvplan.hf.blocks.mlp import MLP
from kvplan.hf.blocks.recurrent import Mamba1, Mamba2
from kvplan.hf.config import Config, Figure, UncountedError
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import INPUT, Style, model
from kvplan.hf.families.states import expanded, mamba1, mamba2
from kvplan.hf.geometry import MULTI_HEAD, kv_heads, quotient
from kvplan.hf.layers import LINEAR, by_type, layer_count

_ZAMBA2 = Style(final="model.final_layernorm", tie=True)
_HYBRID, _SHARED, _TRANSF = "hybrid", "shared_transformer", "shared_transf"


def _zamba2(config: Config) -> Model:
    """A "hybrid" layer has shared attention before its Mamba-2, with a cache of its own."""
    types = config.words("layers_block_type")
    if not types:
        config.missing("layers_block_type")
    count = layer_count(config)
    config.per_layer("layers_block_type", types, count)
    state, shared = _state(config), _attention(config)
    layers = _layers(config, types, state, shared)
    return model(config, _ZAMBA2, layers, lambda: _others(config, types, shared))


def _layers(
    config: Config, types: Sequence[str], state: Mamba1 | Mamba2, shared: Attention
) -> Sequence[Layer]:
    """Mamba on every layer; a hybrid one has the shared attention before it."""
    inner = replace(state, root="mamba_decoder.mamba")
    kinds = {
        "mamba": lambda: (state,),
        LINEAR: lambda: (state,),
        _HYBRID: lambda: (Again(shared), inner),
    }
    return by_type(config, types, kinds)


def _attention(config: Config) -> Attention:
    """It sees two hidden states side by side: head width 2 x hidden / heads."""
    config.ignore("kv_channels", "num_query_groups", "hybrid_layer_ids")
    count, hidden = config.count("num_attention_heads"), config.count("hidden_size")
    width = config.count("attention_head_dim", "head_dim")
    if width * count != 2 * hidden:
        config.refuse(f"{width.origin} is {width}, not 2 × hidden_size ÷ num_attention_heads")
    seen = config.maybe("attention_hidden_size")
    if seen not in (None, 2 * hidden):
        config.refuse(f"attention_hidden_size is {seen}, not 2 × hidden_size")
    kv = kv_heads(config, MULTI_HEAD, count)
    root = f"{_SHARED}.self_attn"
    return Attention(heads=count, kv=kv, width=width, into=2 * hidden, root=root)


def _state(config: Config) -> Mamba2:
    """Head width is expand x hidden / heads (Zamba2Config); the file's own may not differ.

    The convolution has a bias whatever ``use_conv_bias`` says (modeling_zamba2.py).
    """
    inner = expanded(config, "mamba_expand")
    width = quotient(config, inner, config.count("n_mamba_heads"))
    if (config.maybe("mamba_headdim") or width) != width:
        config.refuse(f"mamba_headdim is not {width.origin}")
    state = mamba2(
        config,
        heads="n_mamba_heads",
        width=width,
        groups="mamba_ngroups",
        state="mamba_d_state",
        conv="mamba_d_conv",
        biases=("add_bias_linear", "use_conv_bias"),
    )
    return replace(state, conv_bias=True)


def _others(config: Config, types: Sequence[str], heads: Attention) -> Sequence[Layer]:
    """Shared layers are stored once each, in the first ``num_mem_blocks`` hybrid layers.

    All of them alternate after that; each has an adapter of its own for every layer it serves.
    """
    _refuse_untied(config)
    hybrid = [index for index, kind in enumerate(types) if kind == _HYBRID]
    blocks = config.size("num_mem_blocks") if hybrid else 0
    plain: Layer = (Norms(names=(INPUT,)),)
    beside: Layer = (_joint(config), Norms(names=(f"mamba_decoder.{INPUT}",)))
    others = [beside if kind == _HYBRID else plain for kind in types]
    for place, index in enumerate(hybrid[:blocks]):
        served = range(place, len(hybrid), blocks)
        others[index] = (*beside, heads, *_shared(config, served))
    return others


def _refuse_untied(config: Config) -> None:
    """The classes tie shared layers only where they tie head and embedding."""
    if not tied(config, default=True):
        raise UncountedError("tie_word_embeddings is off, which unties the shared layers as well")


def _joint(config: Config) -> Extra:
    hidden = config.size("hidden_size")
    return Extra(tensors=tuple(linear("other", "linear", hidden, hidden)))


def _shared(config: Config, served: Sequence[int]) -> Layer:
    """The MLP and norms of one shared layer, and adapters for the hybrid layers that it serves."""
    hidden: int = config.size("hidden_size")
    width = config.maybe("intermediate_size") or 4 * hidden
    mlp = MLP(
        width=width,
        bias=config.flag("add_bias_linear"),
        names=("gate_up_proj", "down_proj"),
        root=f"{_SHARED}.feed_forward",
    )
    lists = [("dense_mlp", "feed_forward.gate_up_proj_adapter_list", hidden, 2 * width)]
    if config.flag("use_shared_attention_adapter"):
        names = (f"self_attn.linear_{letter}_adapter_list" for letter in "qkv")
        lists += [("attention", name, 2 * hidden, 2 * hidden) for name in names]
    return (
        mlp,
        Norms(names=(f"{_SHARED}.{INPUT}",), width=2 * hidden),
        Norms(names=(f"{_SHARED}.pre_ff_layernorm",)),
        *(_adapters(config, served, *adapter) for adapter in lists),
    )


def _adapters(
    config: Config, served: Sequence[int], part: str, name: str, into: int, out: int
) -> Extra:
    """Two narrow matrices for each layer."""
    rank = config.size("adapter_rank")
    roots = [f"{_SHARED}.{name}.{index}" for index in served]
    down = (tensor for root in roots for tensor in linear(part, f"{root}.0", rank, into))
    up = (tensor for root in roots for tensor in linear(part, f"{root}.1", out, rank))
    return Extra(tensors=(*down, *up))


def _zamba(config: Config) -> Model:
    """Mamba-1 in ``n_mamba_heads`` heads, and one transformer layer in every hybrid one.

    ZambaConfig: the third layer is hybrid, then those that the period names.
    """
    count = layer_count(config)
    types = _zamba_types(config, count)
    state, shared = _mamba(config), _zamba_attention(config)
    layers = _layers(config, types, state, shared)
    return model(config, _ZAMBA2, layers, lambda: _zamba_others(config, types, shared))


def _zamba_types(config: Config, layers: int) -> Sequence[str]:
    types = config.per_layer("layers_block_type", config.words("layers_block_type"), layers)
    period, offset = config.maybe("attn_layer_period"), config.maybe("attn_layer_offset", least=0)
    if types is not None:
        return types
    if period is None or offset is None:
        config.missing("layers_block_type")
    later = (_HYBRID if index % period == offset else LINEAR for index in range(layers - 3))
    return [LINEAR, LINEAR, _HYBRID, *later][:layers]


def _mamba(config: Config) -> Mamba1:
    """Each head makes its own dt, B and C (ZambaMambaMixer)."""
    inner = expanded(config, "mamba_expand")
    state = mamba1(
        config,
        inner,
        state="mamba_d_state",
        conv="mamba_d_conv",
        rank="mamba_dt_rank",
        biases=("mamba_proj_bias", "mamba_conv_bias"),
    )
    heads = config.count("n_mamba_heads")
    quotient(config, inner, heads)
    return replace(state, heads=heads, root="mamba")


def _zamba_attention(config: Config) -> Attention:
    """It sees two hidden states side by side (ZambaAttention)."""
    count, hidden = config.count("num_attention_heads"), config.count("hidden_size")
    seen = config.maybe("attention_hidden_size") or Figure(2 * hidden, f"2 × {hidden.origin}")
    width = config.maybe("attention_head_dim") or quotient(
        config, Figure(2 * hidden, f"2 × {hidden.origin}"), count
    )
    kv = kv_heads(config, MULTI_HEAD, count)
    root = f"{_TRANSF}.self_attn"
    return Attention(heads=count, kv=kv, width=width, into=seen, root=root)


def _zamba_others(config: Config, types: Sequence[str], heads: Attention) -> Sequence[Layer]:
    """The transformer layer is stored once, in the first hybrid layer; each has a matrix."""
    _refuse_untied(config)
    plain: Layer = (Norms(names=(INPUT,)),)
    beside: Layer = (_joint(config), Norms(names=(f"mamba_decoder.{INPUT}",)))
    others = [beside if kind == _HYBRID else plain for kind in types]
    if _HYBRID in types:
        mlp = MLP(width=config.size("intermediate_size"), root=f"{_TRANSF}.feed_forward")
        norms = (
            Norms(names=(f"{_TRANSF}.{INPUT}",), width=heads.into),
            Norms(names=(f"{_TRANSF}.pre_ff_layernorm",)),
        )
        others[types.index(_HYBRID)] = (*beside, heads, mlp, *norms)
    return others


FAMILIES: dict[str, Family] = {"zamba": Family(read=_zamba), "zamba2": Family(read=_zamba2)}
