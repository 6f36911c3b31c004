"""Readers of models with recurrent layers, alone or between attention layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from kvplan.hf import geometry as geo
from kvplan.hf.config import MAX_LAYERS, Config, Rule, shown
from kvplan.hf.geometry import MULTI_HEAD, OWN_HEAD_DIM, Heads
from kvplan.hf.layers import (
    FULL,
    LINEAR,
    MTP,
    Cache,
    Layer,
    Plan,
    Reader,
    agree,
    by_type,
    cache,
    drafts,
    layer_count,
    layer_types,
    one_full_in,
    uniform,
    zero_or_one,
)


def qwen_next(mtp: str = "mtp_num_hidden_layers") -> Reader:
    """Gated DeltaNet, full attention every ``full_attention_interval`` layers (Qwen3NextConfig)."""

    def read(config: Config) -> Plan:
        layers, figures = layer_count(config), geo.heads(config, OWN_HEAD_DIM)
        config.require("use_sliding_window", False)
        config.ignore("sliding_window" if config.has("use_sliding_window") else "")
        period = config.maybe("full_attention_interval")
        rule = one_full_in(period, LINEAR) if period else None
        types = layer_types(config, layers, rule)
        if rule is not None:
            agree(config, "full_attention_interval", types, rule)
        plain = geo.full(figures)
        stack = by_type(
            config, types, {FULL: lambda: (plain,), LINEAR: lambda: (geo.gated_delta_net(config),)}
        )
        return Plan(stack, layers.origin, ((plain,),) * drafts(config, mtp))

    return read


def olmo_hybrid(config: Config) -> Plan:
    """Gated DeltaNet and full attention by ``layer_types``; the state's shape has to be given."""
    layers, figures = layer_count(config), geo.heads(config, MULTI_HEAD)
    types = layer_types(config, layers, None)
    return Plan(
        by_type(
            config,
            types,
            {FULL: lambda: (geo.full(figures),), LINEAR: lambda: (geo.gated_delta_net(config),)},
        ),
        layers.origin,
    )


def kimi_linear(config: Config) -> Plan:
    """KDA and MLA; ``full_attn_layers`` and ``kda_layers`` count from one (KimiLinearConfig)."""
    layers, latent = layer_count(config), geo.mla(config)
    section = config.section("linear_attn_config")
    lists = _one_indexed(section, layers) if section is not None else None
    types = layer_types(config, layers, (lambda index: lists[index]) if lists else None)
    if lists:
        agree(config, "linear_attn_config", types, lambda index: lists[index])
    return Plan(
        by_type(
            config, types, {FULL: lambda: (latent,), LINEAR: lambda: (geo.kimi_delta(config),)}
        ),
        layers.origin,
        ((latent,),) * drafts(config, MTP),
    )


def _one_indexed(section: Config, layers: int) -> list[str]:
    full, linear = section.numbers("full_attn_layers"), section.numbers("kda_layers")
    if full is None or linear is None:
        section.missing("full_attn_layers", "kda_layers")
    if sorted(full + linear) != list(range(1, layers + 1)):
        section.refuse(f"full_attn_layers and kda_layers do not name each of {layers} layers once")
    return [FULL if index + 1 in set(full) else LINEAR for index in range(layers)]


def bailing_hybrid(config: Config) -> Plan:
    """KDA and MLA, the last of every ``layer_group_size`` full (BailingHybridConfig)."""
    layers, latent = layer_count(config), geo.mla(config)
    config.ignore("linear_conv_kernel_dim", "linear_num_heads", "linear_head_dim")
    period = config.maybe("layer_group_size")
    types = layer_types(config, layers, one_full_in(period, LINEAR) if period else None)
    delta = cache(
        "kimi_delta_attention",
        num_heads=config.count("num_attention_heads"),
        head_dim=config.count("head_dim"),
        conv_kernel=config.count("short_conv_kernel_size", least=2, most=64),
    )
    return Plan(
        by_type(config, types, {FULL: lambda: (latent,), LINEAR: lambda: (delta,)}),
        layers.origin,
        ((latent,),) * drafts(config, MTP),
    )


def minimax_01(config: Config) -> Plan:
    """Lightning and full attention: ``attn_type_list`` 0 and 1, or ``layer_types``."""
    layers, figures = layer_count(config), geo.heads(config)
    flags = config.per_layer("attn_type_list", config.numbers("attn_type_list"), layers)
    rule: Rule | None = None
    if flags is not None:
        named = [FULL if zero_or_one(config, "attn_type_list", f) else LINEAR for f in flags]
        rule = lambda index: named[index]  # noqa: E731
    types = layer_types(config, layers, rule)
    if rule is not None:
        agree(config, "attn_type_list", types, rule)
    return Plan(
        by_type(
            config,
            types,
            {FULL: lambda: (geo.full(figures),), LINEAR: lambda: (geo.lightning(figures, config),)},
        ),
        layers.origin,
    )


def minimax_m2(config: Config) -> Plan:
    """Full attention throughout, whatever else ``attn_type_list`` might say."""
    flags = config.numbers("attn_type_list")
    if flags is not None and set(flags) != {1}:
        config.refuse("attn_type_list names lightning layers, which MiniMax-M2 does not have")
    layer = (geo.full(geo.heads(config, OWN_HEAD_DIM)),)
    modules = drafts(config, "num_mtp_modules") if config.flag("use_mtp") else 0
    each = config.maybe("mtp_transformer_layers") or 1
    return uniform(config, layer, draft=modules * each)


def nemotron_h(config: Config) -> Plan:
    """``hybrid_override_pattern`` (M, *, -, E) or ``layers_block_type``, one a layer."""
    types = _nemotron_types(config, "hybrid_override_pattern", "layers_block_type")
    if types is None:
        config.missing("hybrid_override_pattern", "layers_block_type")
    given = config.maybe("num_hidden_layers")
    if given is not None and given != len(types):
        config.refuse(f"num_hidden_layers is {given}, but the pattern has {len(types)} layers")
    config.require("sliding_window")
    dialect = replace(OWN_HEAD_DIM, head_dim=("head_dim", "attention_head_dim"))
    kinds: dict[str, Callable[[], Layer]] = {
        "mamba": lambda: (_nemotron_mamba(config),),
        "attention": lambda: (geo.full(geo.heads(config, dialect)),),
        "mlp": lambda: (),
        "moe": lambda: (),
    }
    times = drafts(config, MTP)
    more = _nemotron_types(config, "mtp_hybrid_override_pattern", "mtp_layers_block_type") or []
    draft = by_type(config, [kind for kind in more if kind == "attention"] * times, kinds)
    origin = given.origin if given is not None else "length of the layer pattern"
    return Plan(by_type(config, types, kinds), origin, draft)


def _nemotron_types(config: Config, pattern_key: str, list_key: str) -> list[str] | None:
    letters = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
    alias = {LINEAR: "mamba", FULL: "attention"}
    pattern, names = config.word(pattern_key), config.words(list_key)
    listed = [alias.get(name, name) for name in names] if names else None
    if pattern is None:
        return listed
    if not 1 <= len(pattern) <= MAX_LAYERS:
        config.refuse(f"{pattern.origin} has {len(pattern)} layers")
    unknown = sorted(set(pattern) - set(letters))
    if unknown:
        config.refuse(f"{pattern.origin} has a layer {shown(unknown[0])}; known: M, *, -, E")
    types = [letters[letter] for letter in pattern]
    if listed is not None and listed != types:
        config.refuse(f"{pattern_key} and {list_key} contradict each other")
    return types


def _nemotron_mamba(config: Config) -> tuple[tuple[str, Any], ...]:
    return geo.mamba2(
        config,
        heads="mamba_num_heads",
        width="mamba_head_dim",
        groups="n_groups",
        state="ssm_state_size",
        conv="conv_kernel",
    )


def jamba(config: Config) -> Plan:
    """Attention where ``i % attn_layer_period == attn_layer_offset``, else Mamba (JambaConfig)."""
    layers, figures = layer_count(config), geo.heads(config)
    period = config.count("attn_layer_period")
    offset = config.count("attn_layer_offset", least=0)
    if offset >= period:
        config.refuse("attn_layer_offset is not within attn_layer_period: no layer would attend")
    state = geo.mamba1(config, "mamba_d_state", "mamba_d_conv", "mamba_expand")
    plain = (geo.full(figures),)
    stack = tuple(plain if i % period == offset else (state,) for i in range(layers))
    return Plan(stack, layers.origin)


def mamba2_hybrid(config: Config) -> Plan:
    """Mamba-2 and attention by ``layer_types`` (Granite-4) or ``attn_layer_indices`` (Bamba)."""
    layers = layer_count(config)
    indices = config.numbers("attn_layer_indices")
    rule: Rule | None = None
    if indices is not None:
        if not all(0 <= index < layers for index in indices):
            config.refuse("attn_layer_indices names a layer that does not exist")
        rule = lambda index: "attention" if index in set(indices) else "mamba"  # noqa: E731
    config.ignore(*(key for key in config.raw if key.startswith("mamba_")))
    plain: Callable[[], Layer] = lambda: (geo.full(geo.heads(config, MULTI_HEAD)),)  # noqa: E731
    state: Callable[[], Layer] = lambda: (geo.mamba2_d(config),)  # noqa: E731
    types = layer_types(config, layers, rule)
    return Plan(
        by_type(config, types, {"attention": plain, FULL: plain, "mamba": state, LINEAR: state}),
        layers.origin,
    )


def falcon_h1(config: Config) -> Plan:
    """Every layer has both, attention and Mamba-2 (FalconH1Config)."""
    config.require("attn_layer_indices")
    heads = geo.heads(config)
    return uniform(config, (geo.full(heads), geo.mamba2_d(config)))


def zamba2(config: Config) -> Plan:
    """Mamba-2 throughout; a "hybrid" layer has shared attention before it, with its own cache."""
    types = config.words("layers_block_type")
    if not types:
        config.missing("layers_block_type")
    layers = layer_count(config)
    config.per_layer("layers_block_type", types, layers)
    state, attention = _zamba2_state(config), geo.full(_zamba2_heads(config))
    kinds: dict[str, Callable[[], Layer]] = {
        "mamba": lambda: (state,),
        LINEAR: lambda: (state,),
        "hybrid": lambda: (attention, state),
    }
    return Plan(by_type(config, types, kinds), layers.origin)


def _zamba2_heads(config: Config) -> Heads:
    """The attention sees two hidden states side by side: head width 2 x hidden / heads."""
    config.ignore("kv_channels", "num_query_groups", "attention_hidden_size", "hybrid_layer_ids")
    count = config.count("num_attention_heads")
    width = config.count("attention_head_dim", "head_dim")
    if width * count != 2 * config.count("hidden_size"):
        config.refuse(f"{width.origin} is {width}, not 2 × hidden_size ÷ num_attention_heads")
    return {
        "num_attention_heads": count,
        "num_key_value_heads": geo.kv_heads(config, MULTI_HEAD, count),
        "head_dim": width,
    }


def _zamba2_state(config: Config) -> Cache:
    """Head width is expand x hidden / heads (Zamba2Config); the file's own may not differ."""
    inner = geo.expanded(config, "mamba_expand")
    each = geo.quotient(config, inner, config.count("n_mamba_heads"))
    if (config.maybe("mamba_headdim") or each) != each:
        config.refuse(f"mamba_headdim is not {each.origin}")
    return geo.mamba2(
        config,
        heads="n_mamba_heads",
        width=each,
        groups="mamba_ngroups",
        state="mamba_d_state",
        conv="mamba_d_conv",
    )


def falcon_mamba(config: Config) -> Plan:
    """Mamba-1 on every layer; the inner width is ``intermediate_size`` (FalconMambaConfig).

    falcon-mamba-7b names an ``expand`` of 16 that nothing uses.
    """
    inner = config.count("intermediate_size")
    config.ignore("expand")
    state = cache(
        "mamba1",
        d_inner=inner,
        d_state=config.count("state_size"),
        conv_kernel=config.count("conv_kernel"),
    )
    return uniform(config, (state,))


def mamba1(config: Config) -> Plan:
    """Mamba-1 on every layer; the inner width is ``expand x hidden_size`` (MambaConfig)."""
    inner = config.maybe("intermediate_size", "d_inner")
    state = geo.mamba1(config, "state_size", "conv_kernel", "expand")
    if inner is not None and inner != geo.expanded(config, "expand"):
        config.refuse(f"{inner.origin} is {inner}, not expand × hidden_size")
    return uniform(config, (state,))


def mamba2(config: Config) -> Plan:
    """Mamba-2 throughout: ``num_heads x head_dim`` is ``expand x hidden_size`` (Mamba2Config)."""
    state = geo.mamba2(
        config,
        heads="num_heads",
        width="head_dim",
        groups="n_groups",
        state="state_size",
        conv="conv_kernel",
    )
    if config.count("num_heads") * config.count("head_dim") != geo.expanded(config, "expand"):
        config.refuse("num_heads × head_dim is not expand × hidden_size")
    return uniform(config, (state,))


def lfm2(config: Config) -> Plan:
    """Short convolutions over ``hidden_size`` and attention (Lfm2Config, modeling_lfm2.py:316)."""
    layers, figures = layer_count(config), geo.heads(config)
    attending = config.numbers("full_attn_idxs")
    rule = (lambda i: FULL if i in set(attending) else "conv") if attending else None
    types = layer_types(config, layers, rule)
    if rule is not None:
        agree(config, "full_attn_idxs", types, rule)
    hidden = config.count("hidden_size")
    channels = config.maybe("conv_dim") or hidden
    if channels != hidden:
        config.refuse("conv_dim is not hidden_size, which the convolution runs over")
    config.ignore("conv_dim_out", "conv_use_xavier_init", "conv_bias", "conv_L_cache")

    def convolution() -> Layer:
        kernel = config.count("conv_L_cache", least=2, most=64)
        return (cache("short_conv", channels=channels, conv_kernel=kernel),)

    return Plan(
        by_type(config, types, {FULL: lambda: (geo.full(figures),), "conv": convolution}),
        layers.origin,
    )
