"""Readers of families that spell their attention in a way of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kvplan.hf import geometry as geo
from kvplan.hf.config import Config, Figure, shown
from kvplan.hf.geometry import DENSE, MULTI_HEAD, OWN_HEAD_DIM, Dialect, Heads
from kvplan.hf.layers import (
    FULL,
    MTP,
    SLIDING,
    Layer,
    Plan,
    agree,
    by_type,
    cache,
    drafts,
    layer_count,
    layer_types,
    uniform,
    zero_or_one,
)
from kvplan.hf.ordinary import dense, hybrid_window


def falcon(config: Config) -> Plan:
    """``multi_query`` counts only without ``new_decoder_architecture`` (modeling_falcon.py)."""
    keys = ("num_kv_heads", "n_head_kv")
    names = Dialect(("num_attention_heads", "n_head"), ("hidden_size", "n_embed"), keys, ())
    if not config.flag("new_decoder_architecture", default=False):
        many = not config.flag("multi_query", default=None)
        config.ignore(*keys)
        names = replace(names, kv=(), kv_absent="heads")
        if not many:
            figures = {
                **geo.heads(config, names),
                "num_key_value_heads": Figure(1, config.name("multi_query")),
            }
            return uniform(config, (geo.full(figures),), "num_hidden_layers", "n_layer")
    config.ignore("multi_query")
    return uniform(config, (geo.full(geo.heads(config, names)),), "num_hidden_layers", "n_layer")


GPT2 = Dialect(("n_head", "num_attention_heads"), ("n_embd", "hidden_size"), (), (), "heads")


def gpt_bigcode(config: Config) -> Plan:
    """``multi_query`` is one KV head (GPTBigCodeConfig)."""
    figures = geo.heads(config, GPT2)
    if config.flag("multi_query", default=None):
        figures["num_key_value_heads"] = Figure(1, config.name("multi_query"))
    return uniform(config, (geo.full(figures),), "n_layer", "num_hidden_layers")


def mpt(config: Config) -> Plan:
    """``attn_config.attn_type`` says how many KV heads there are (MosaicML llm-foundry)."""
    figures = geo.heads(config, Dialect(("n_heads",), ("d_model",), (), (), "heads"))
    section = config.section("attn_config")
    kind = section.word("attn_type") if section is not None else None
    if section is not None and kind == "multiquery_attention":
        figures["num_key_value_heads"] = Figure(1, kind.origin)
    elif section is not None and kind == "grouped_query_attention":
        figures["num_key_value_heads"] = section.count("kv_n_heads")
    elif kind not in (None, "multihead_attention"):
        config.refuse(f"attn_config.attn_type is {shown(kind)}, which is not known")
    if section is not None:
        section.require("sliding_window_size", -1)
    return uniform(config, (geo.full(figures),), "n_layers")


def dbrx(config: Config) -> Plan:
    """KV heads stand in ``attn_config`` (DbrxConfig)."""
    section = config.section("attn_config")
    if section is None:
        config.missing("attn_config")
    figures = geo.heads(config, Dialect(("n_heads",), ("d_model",), (), (), "heads"))
    figures["num_key_value_heads"] = section.count("kv_n_heads")
    return uniform(config, (geo.full(figures),), "n_layers")


def chatglm(config: Config) -> Plan:
    """``multi_query_group_num`` KV heads where ``multi_query_attention`` is on, else one a head."""
    names = Dialect(kv=(), head_dim=("kv_channels",), kv_absent="heads")
    figures = geo.heads(config, names)
    if config.flag("multi_query_attention"):
        figures["num_key_value_heads"] = config.count("multi_query_group_num")
    config.ignore("multi_query_group_num")
    return uniform(config, (geo.full(figures),), "num_layers", "num_hidden_layers")


def grok(config: Config) -> Plan:
    """Grok-1 and 2: full attention; ``sliding_window_size`` -1 is none."""
    config.require("sliding_window_size", -1)
    config.require("global_attn_every_n", 1)
    return dense(OWN_HEAD_DIM)(config)


def hunyuan(config: Config) -> Plan:
    """``use_cla``: only every ``cla_share_factor``-th layer owns keys and values."""
    config.require("use_mla", False)
    config.ignore(
        "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "q_lora_rank"
    )
    names = replace(MULTI_HEAD, head_dim=("head_dim", "attention_head_dim"))
    figures, layers = geo.heads(config, names), layer_count(config)
    if not config.flag("use_cla"):
        config.ignore("cla_share_factor")
        return uniform(config, (geo.full(figures),))
    factor = config.count("cla_share_factor", most=64)
    shared = (cache("kv_shared", **figures),)
    own = (geo.full(figures),)
    return Plan(tuple(shared if i % factor else own for i in range(layers)), layers.origin)


def mimo_v2(config: Config) -> Plan:
    """``hybrid_layer_pattern`` 0 is full, 1 sliding, with heads of its own (remote code)."""
    layers = layer_count(config)
    flags = config.numbers("hybrid_layer_pattern")
    pattern = config.per_layer("hybrid_layer_pattern", flags, layers)
    if pattern is None:
        config.missing("hybrid_layer_pattern")
    config.ignore("attention_chunk_size", "swa_rope_theta", "add_swa_attention_sink_bias")
    named = [SLIDING if zero_or_one(config, "hybrid_layer_pattern", f) else FULL for f in pattern]
    types = layer_types(config, layers, lambda index: named[index])
    agree(config, "hybrid_layer_pattern", types, lambda index: named[index])
    full = {**geo.heads(config, OWN_HEAD_DIM), "v_head_dim": config.count("v_head_dim")}

    def local() -> Layer:
        return (geo.sliding(config, _swa_heads(config)),)

    return Plan(
        by_type(config, types, {FULL: lambda: (geo.full(full),), SLIDING: local}), layers.origin
    )


def _swa_heads(config: Config) -> Heads:
    return {
        "num_attention_heads": config.count("swa_num_attention_heads"),
        "num_key_value_heads": config.count("swa_num_key_value_heads"),
        "head_dim": config.count("swa_head_dim"),
        "v_head_dim": config.count("swa_v_head_dim"),
    }


def laguna(config: Config) -> Plan:
    """``num_attention_heads_per_layer`` beside ``layer_types`` (LagunaConfig)."""
    layers, base = layer_count(config), geo.heads(config, OWN_HEAD_DIM)
    types = layer_types(config, layers, None)
    config.ignore(*geo.WINDOW_KEYS)
    key = "num_attention_heads_per_layer"
    counts = config.per_layer(key, config.numbers(key), layers)
    made: list[Layer] = []
    for index, kind in enumerate(types):
        heads = base
        if counts is not None:
            heads = {**base, "num_attention_heads": config.within(key, counts[index], 1, 10_000)}
        made += by_type(
            config,
            [kind],
            {
                FULL: lambda heads=heads: (geo.full(heads),),  # type: ignore[misc]
                SLIDING: lambda heads=heads: (geo.sliding(config, heads),),  # type: ignore[misc]
            },
        )
    return Plan(tuple(made), layers.origin)


def step3(config: Config) -> Plan:
    """Step-3: ``num_attention_groups`` KV heads."""
    return dense(replace(OWN_HEAD_DIM, kv=("num_attention_groups", "num_key_value_heads")))(config)


def step3p5(config: Config) -> Plan:
    """Step-3.5: sliding layers have heads of their own (``attention_other_setting``).

    vLLM 0.33.0 step3p5.py:73-84: KV heads and head width are the model's.
    """
    names = replace(OWN_HEAD_DIM, kv=("num_attention_groups", "num_key_value_heads"))
    layers, figures, draft = layer_count(config), geo.heads(config, names), drafts(config, MTP)
    local = dict(figures)
    other = config.section("attention_other_setting")
    if other is not None:
        other.require("attention_type", SLIDING)
        other.require(
            "num_attention_groups",
            figures["num_key_value_heads"] or 0,
            int(figures["num_key_value_heads"] or 0),
        )
        other.require("head_dim", int(figures["head_dim"] or 0))
        local["num_attention_heads"] = other.count("num_attention_heads")
    named = config.maybe("num_sliding_attention_heads")
    if named is not None:
        local["num_attention_heads"] = named
    kinds: dict[str, Callable[[], Layer]] = {
        FULL: lambda: (geo.full(figures),),
        SLIDING: lambda: (geo.sliding(config, local),),
    }
    listed = config.words("layer_types") or []
    types = layer_types(config, layers, None, draft)
    extra = listed[layers:] or (config.words("mtp_layer_types") or [])
    stack = by_type(config, types, kinds)
    return Plan(stack, layers.origin, by_type(config, extra, kinds))


def nemotron_nas(config: Config) -> Plan:
    """``block_configs`` by layer: heads over ``n_heads_in_group``, or no attention at all."""
    layers, count = layer_count(config), config.count("num_attention_heads")
    config.ignore("num_key_value_heads")
    blocks = config.per_layer(
        "block_configs", config.items("block_configs", dict, "objects"), layers
    )
    if blocks is None:
        config.missing("block_configs")
    width = geo.head_dim(config, DENSE, count)
    return Plan(
        tuple(
            _nas_layer(
                Config(block, config.path, config.architecture, f"block_configs[{i}]."),
                count,
                width,
            )
            for i, block in enumerate(blocks)
        ),
        layers.origin,
    )


def _nas_layer(block: Config, count: Figure, width: Figure) -> Layer:
    attention = block.section("attention")
    if attention is None:
        block.missing("attention")
    for key in ("window_length", "num_sink_tokens", "sparsify"):
        attention.require(key)
    if attention.flag("no_op") or attention.flag("replace_with_linear"):
        return ()
    group = attention.count("n_heads_in_group")
    if count % group:
        attention.refuse(f"{count} heads do not divide into groups of {group}")
    kv = Figure(count // group, "num_attention_heads ÷ block_configs[].attention.n_heads_in_group")
    return (
        cache("full_attention", num_attention_heads=count, num_key_value_heads=kv, head_dim=width),
    )


def dots1(config: Config) -> Plan:
    """Full attention up to ``max_window_layers``, which is all layers in what is published."""
    start = config.maybe("max_window_layers", least=0)
    if geo.window(config) is None or (start is not None and start >= layer_count(config)):
        return dense()(config)
    return hybrid_window()(config)


def cohere2_moe(config: Config) -> Plan:
    """``layer_types`` decides; the patterns only fill it in where it is missing."""
    config.ignore("prefix_dense_sliding_window_pattern", "sliding_window_pattern")
    return hybrid_window(dialect=OWN_HEAD_DIM)(config)
