"""Counts of families whose experts or heads differ from layer to layer.

Sources: the classes of transformers 5.23.0, or the model's own code where it has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvplan.hf.config import Config
from kvplan.hf.geometry import MULTI_HEAD, OWN_HEAD_DIM
from kvplan.hf.layers import FULL, SLIDING
from kvplan.hf.parameters import blocks as b
from kvplan.hf.parameters import latent as mla
from kvplan.hf.parameters import mixture as moe
from kvplan.hf.parameters import ordinary as plain
from kvplan.hf.parameters.blocks import Attention, Experts, Tensors, UncountedError
from kvplan.hf.parameters.ordinary import ATTENTION_BIAS, Counter, Recipe


def grok(config: Config) -> Tensors:
    """Grok-2: a dense MLP beside the experts (``residual_moe``), four norms a layer.

    Grok-1 has neither key: its experts are ``intermediate_size`` wide (xai-org/grok-1 model.py).
    """
    layers = plain.layer_count(config, "num_hidden_layers")
    shape = plain.attention_shape(config, Recipe(dialect=OWN_HEAD_DIM))
    hidden, second = shape.hidden, config.has("residual_moe")
    if not second and (config.has("moe_intermediate_size") or not _says_tied(config)):
        b.uncounted(config, "residual_moe", "tie_word_embeddings")
    block = Experts(
        hidden=hidden,
        width=b.size(config, "moe_intermediate_size" if second else "intermediate_size"),
        count=b.size(config, "num_local_experts", "num_experts"),
        used=b.size(config, *moe.USED),
        root="block_sparse_moe",
        expert_names=("w1", "w3", "w2"),
    )
    names = ("pre_attn_norm", "post_attn_norm", "pre_moe_norm", "post_moe_norm")
    every = (*b.attention(shape), *b.experts(block), *b.norms(names, hidden))
    if config.flag("residual_moe"):
        every += b.gated_mlp(hidden, b.size(config, "intermediate_size"))
    return b.placed(every, range(layers)) + plain.outside_layers(config, Recipe(), hidden)


def _says_tied(config: Config) -> bool:
    return config.has("tie_word_embeddings")


def hunyuan(config: Config) -> Tensors:
    """Hunyuan dense and MoE: norms after the rotation, one KV pair in ``cla_share_factor`` layers.

    ``use_cla``: layers between have a query projection alone (the model's own modeling_hunyuan.py).
    """
    layers = plain.layer_count(config, "num_hidden_layers")
    dialect = replace(MULTI_HEAD, head_dim=("head_dim", "attention_head_dim"))
    names = ("query_layernorm", "key_layernorm")
    recipe = Recipe(
        dialect=dialect,
        bias=ATTENTION_BIAS,
        qk_norm="head",
        qk_norm_names=names,
        qk_norm_key=("use_qk_norm", config.raw.get("model_type") != "hunyuan"),
    )
    shape = plain.attention_shape(config, recipe)
    if config.flag("use_cla"):
        raise UncountedError("use_cla is on: no published file says which norms those layers have")
    every = (*b.attention(shape), *b.norms(plain.PRE_NORM, shape.hidden))
    made = b.placed(every, range(layers))
    made += b.placed(_hunyuan_mlp(config, shape.hidden, layers), range(layers))
    tie = config.raw.get("model_type") == "hunyuan_v1_dense"
    return made + plain.outside_layers(config, Recipe(tie=tie), shape.hidden)


def _hunyuan_mlp(config: Config, hidden: int, layers: int) -> Tensors:
    count = b.one_value(config, "num_experts", layers) or 1
    bias = config.flag("mlp_bias")
    if count == 1:
        return b.gated_mlp(hidden, b.size(config, "intermediate_size"), bias=bias)
    if config.maybe("moe_layer_num_skipped", least=0):
        raise UncountedError("moe_layer_num_skipped is set")
    key = "moe_intermediate_size"
    width = b.one_value(config, key, layers) if config.has(key) else None
    width = width or b.size(config, "intermediate_size")
    shared = 0
    own_code = config.raw.get("model_type") == "hunyuan"
    if config.flag("use_mixed_mlp_moe", default=not own_code):
        number = b.one_value(config, "num_shared_expert", layers)
        shared = b.size(config, "intermediate_size") * (number or 1)
    block = Experts(
        hidden=hidden,
        width=width,
        count=count,
        used=b.one_value(config, "moe_topk", layers) or b.size(config, "moe_topk"),
        router="gate.wg",
        bias=bias,
        shared_width=shared,
        shared="mlp.shared_mlp",
    )
    return b.experts(block)


def mimo_v2(config: Config) -> Tensors:
    """Full and sliding layers with heads of their own; sinks where the file says so."""
    layers = plain.layer_count(config, "num_hidden_layers")
    flags = (
        config.per_layer("hybrid_layer_pattern", config.numbers("hybrid_layer_pattern"), layers)
        or ()
    )
    if not flags:
        b.uncounted(config, "hybrid_layer_pattern")
    hidden, bias = b.size(config, "hidden_size"), config.flag("attention_bias")
    made: Tensors = ()
    for flag, prefix, key in ((0, "", "full"), (1, "swa_", "swa")):
        where = [index for index, value in enumerate(flags) if value == flag]
        if not where:
            continue
        shape = Attention(
            hidden=hidden,
            heads=b.size(config, f"{prefix}num_attention_heads"),
            kv=b.size(config, f"{prefix}num_key_value_heads"),
            width=b.size(config, f"{prefix}head_dim"),
            v_width=b.size(config, f"{prefix}v_head_dim"),
            bias=bias,
        )
        sink = f"add_{'swa' if key == 'swa' else 'full'}_attention_sink_bias"
        extra = b.vector("attention", "self_attn.attention_sink_bias", shape.heads)
        every = b.attention(shape) + (extra if config.flag(sink) else ())
        made += b.placed(every, where)
    made += b.placed(b.norms(plain.PRE_NORM, hidden), range(layers))
    mixture = replace(moe.DEEPSEEK, needs_shared=False, correction=mla.noaux(config))
    sparse = moe.dense_first(config, layers)
    rest = sorted(set(range(layers)) - set(sparse))
    if rest:
        made += b.placed(b.gated_mlp(hidden, b.size(config, "intermediate_size")), rest)
    block = moe.experts_of(config, mixture, hidden, layers)
    made += b.placed(b.experts(block), sparse)
    return made + plain.outside_layers(config, Recipe(), hidden)


def laguna(config: Config) -> Tensors:
    """Heads by layer and a gate a head (LagunaConfig); the router's bias is a parameter."""
    layers = plain.layer_count(config, "num_hidden_layers")
    config.require("gating", "per-head", True)
    recipe = Recipe(dialect=OWN_HEAD_DIM, bias=ATTENTION_BIAS, qk_norm="head")
    base = plain.attention_shape(config, recipe)
    key = "num_attention_heads_per_layer"
    counts: Sequence[int] = config.per_layer(key, config.numbers(key), layers) or (
        [base.heads] * layers
    )
    made: Tensors = ()
    for heads in sorted(set(counts)):
        shape = replace(base, heads=int(config.within(key, heads, 1, 10_000)))
        every = (
            *b.attention(shape),
            *b.linear("attention", "self_attn.g_proj", heads, base.hidden),
        )
        made += b.placed(every, [index for index, n in enumerate(counts) if n == heads])
    made += b.placed(b.norms(plain.PRE_NORM, base.hidden), range(layers))
    block = replace(moe.QWEN_SHARED.block, shared_gate=False)
    mixture = replace(moe.QWEN_SHARED, correction="other", block=block)
    sparse = moe.every_step(config, layers)
    rest = sorted(set(range(layers)) - set(sparse))
    if rest:
        dense = b.gated_mlp(base.hidden, b.size(config, "intermediate_size"))
        made += b.placed(dense, rest)
    experts = moe.experts_of(config, mixture, base.hidden, layers)
    made += b.placed(b.experts(experts), sparse)
    return made + plain.outside_layers(config, Recipe(), base.hidden)


def step3(config: Config) -> Tensors:
    """Step-3: queries through a low rank, one KV head; ``moe_layers_enum`` names expert layers."""
    layers, hidden = plain.layer_count(config, "num_hidden_layers"), b.size(config, "hidden_size")
    heads, width = b.size(config, "num_attention_heads"), b.size(config, "head_dim")
    rank, kv = b.size(config, "share_q_dim"), b.size(config, "num_attention_groups")
    part, root = "attention", "self_attn"
    every = (
        *b.linear(part, f"{root}.q_proj", rank, hidden),
        *b.norm(f"{root}.inter_norm", rank),
        *b.linear(part, f"{root}.wq", heads * width, rank),
        *b.linear(part, f"{root}.k_proj", kv * width, hidden),
        *b.linear(part, f"{root}.v_proj", kv * width, hidden),
        *b.linear(part, f"{root}.o_proj", hidden, heads * width),
        *b.norms(plain.PRE_NORM, hidden),
    )
    made = b.placed(every, range(layers))
    made += _step_feed_forward(config, hidden, layers, correction=None)
    return made + plain.outside_layers(config, Recipe(), hidden)


def _step_feed_forward(
    config: Config, hidden: int, layers: int, *, correction: b.Kind | None
) -> Tensors:
    sparse = _step_layers(config, layers)
    rest = sorted(set(range(layers)) - set(sparse))
    block = Experts(
        hidden=hidden,
        width=b.size(config, "moe_intermediate_size"),
        count=b.size(config, "moe_num_experts", "num_experts"),
        used=b.size(config, "moe_top_k", *moe.USED),
        shared_width=b.size(config, "share_expert_dim", "share_expert_dims"),
        correction=correction,
        root="moe",
        shared="share_expert",
    )
    dense = b.gated_mlp(hidden, b.size(config, "intermediate_size"))
    return b.placed(dense, rest) + b.placed(b.experts(block), sparse)


STEP3_LAYERS = 61
"""Of stepfun-ai/step3, whose class has experts in layers 4 to 59 (vLLM 0.33.0 step3_vl.py)."""


def _step_layers(config: Config, layers: int) -> list[int]:
    """``moe_layers_enum`` "4,5,...,59", or every layer from ``first_k_dense_replace`` on."""
    named = config.word("moe_layers_enum")
    if named is not None:
        numbers = [text.strip() for text in named.split(",") if text.strip()]
        if not all(text.isdecimal() and len(text) < 6 and int(text) < layers for text in numbers):  # noqa: PLR2004 - more digits than layers
            config.refuse("moe_layers_enum names a layer that does not exist")
        return sorted({int(text) for text in numbers})
    if config.raw.get("model_type") == "step3_text" and layers == STEP3_LAYERS:
        return list(range(4, STEP3_LAYERS - 1))
    return list(range(b.size(config, "first_k_dense_replace", least=0), layers))


def step3p5(config: Config) -> Tensors:
    """Step-3.5: a gate a head, sliding layers with heads of their own (vLLM 0.33.0 step3p5.py)."""
    layers = plain.layer_count(config, "num_hidden_layers")
    kv = ("num_attention_groups", "num_key_value_heads")
    recipe = Recipe(dialect=replace(OWN_HEAD_DIM, kv=kv), qk_norm="head")
    base = plain.attention_shape(config, recipe)
    types = (config.words("layer_types") or [])[:layers]
    if len(types) < layers:
        b.uncounted(config, "layer_types")
    other = config.section("attention_other_setting")
    local = config.maybe("num_sliding_attention_heads")
    if other is not None:
        local = other.maybe("num_attention_heads") or local
    if local is None and SLIDING in types:
        raise UncountedError(
            "attention_other_setting, which has the heads of sliding layers, is not in the file"
        )
    made: Tensors = ()
    for kind, heads in ((FULL, base.heads), (SLIDING, int(local or 0))):
        where = [index for index, name in enumerate(types) if name == kind]
        if where:
            gate = b.linear("attention", "self_attn.g_proj", heads, base.hidden)
            every = (*b.attention(replace(base, heads=heads)), *gate)
            made += b.placed(every, where)
    made += b.placed(b.norms(plain.PRE_NORM, base.hidden), range(layers))
    made += _step_feed_forward(config, base.hidden, layers, correction="buffer")
    return made + plain.outside_layers(config, Recipe(), base.hidden)


def minimax_m3(config: Config) -> Tensors:
    """MiniMax-M3: an indexer on sparse layers, the first layers dense (MiniMaxM3VLTextConfig)."""
    layers = plain.layer_count(config, "num_hidden_layers")
    config.require("attention_output_gate", False)
    config.require("qk_norm_type", "per_head")
    recipe = Recipe(dialect=OWN_HEAD_DIM, qk_norm="head", qk_norm_key=("use_qk_norm", True))
    shape = plain.attention_shape(config, recipe)
    hidden = shape.hidden
    made = b.placed((*b.attention(shape), *b.norms(plain.PRE_NORM, hidden)), range(layers))
    made += b.placed(_m3_indexer(config, hidden), _m3_sparse(config, layers))
    bias: b.Kind | None = "buffer" if config.flag("use_routing_bias", default=True) else None
    block = Experts(
        hidden=hidden,
        width=b.size(config, "intermediate_size", "moe_intermediate_size"),
        count=b.size(config, "num_local_experts"),
        used=b.size(config, *moe.USED),
        correction=bias,
        shared_width=b.size(config, "n_shared_experts", least=0)
        * b.size(config, "shared_intermediate_size", least=0),
        router_dtype="unsure",
    )
    sparse = moe.dense_first(config, layers)
    rest = sorted(set(range(layers)) - set(sparse))
    if rest:
        width = b.size(config, "dense_intermediate_size")
        made += b.placed(b.gated_mlp(hidden, width), rest)
    made += b.placed(b.experts(block), sparse)
    return made + plain.outside_layers(config, Recipe(), hidden)


def _m3_indexer(config: Config, hidden: int) -> Tensors:
    section = config.section("sparse_attention_config")
    source = config if section is None else section
    heads = b.size(source, "sparse_num_index_heads", "index_n_heads")
    width = b.size(source, "sparse_index_dim", "index_head_dim")
    part, root = "indexer", "self_attn"
    return (
        *b.linear(part, f"{root}.index_q_proj", heads * width, hidden),
        *b.linear(part, f"{root}.index_k_proj", width, hidden),
        *b.norm(f"{root}.index_q_norm", width, part=part),
        *b.norm(f"{root}.index_k_norm", width, part=part),
    )


def _m3_sparse(config: Config, layers: int) -> list[int]:
    section = config.section("sparse_attention_config")
    if section is None:
        types = config.per_layer("layer_types", config.words("layer_types"), layers)
        if types is None:
            b.uncounted(config, "layer_types")
        return [index for index, kind in enumerate(types) if kind == "minimax_m3_sparse"]
    if not section.flag("use_sparse_attention", default=True):
        return []
    key = "sparse_attention_freq"
    flags = section.per_layer(key, section.numbers(key), layers)
    if flags is None:
        b.uncounted(section, key)
    return [index for index, flag in enumerate(flags) if flag]


def afmoe(config: Config) -> Tensors:
    """Four norms, an output gate, and a balancing bias that is a parameter (AfmoeConfig)."""
    names = (*plain.PRE_NORM, "pre_mlp_layernorm", "post_mlp_layernorm")
    recipe = Recipe(dialect=OWN_HEAD_DIM, bias=ATTENTION_BIAS, qk_norm="head", norms=names)
    mixture = moe.Mixture(
        count=("num_experts", "num_local_experts"),
        shared="num_shared_experts",
        correction="other",
        block=replace(moe.NO_FIGURES, router="router.gate"),
    )
    shape = plain.attention_shape(config, recipe)
    gate = b.linear("attention", "self_attn.gate_proj", shape.heads * shape.width, shape.hidden)
    layers = plain.layer_count(config, "num_hidden_layers")
    first = b.size(config, "num_dense_layers", least=0)
    b.refuse_flags(config, "attention_bias")
    return moe.with_experts(recipe, mixture, lambda _, n: tuple(range(first, n)))(
        config
    ) + b.placed(gate, range(layers))


COUNTERS: dict[str, Counter] = {
    "grok": grok,
    **dict.fromkeys(("hunyuan", "hunyuan_v1_dense", "hunyuan_v1_moe"), hunyuan),
    "mimo_v2_flash": mimo_v2,
    "laguna": laguna,
    "step3_text": step3,
    **dict.fromkeys(("step3p5", "step3p7"), step3p5),
    **dict.fromkeys(("minimax_m3", "minimax_m3_vl_text"), minimax_m3),
    "afmoe": afmoe,
}
