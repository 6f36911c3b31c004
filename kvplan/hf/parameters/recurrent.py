"""Counts of families with DeltaNet, lightning attention or short convolutions.

Sources: the modeling files of transformers 5.23.0 named beside each function.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvplan.hf import geometry as geo
from kvplan.hf.config import Config
from kvplan.hf.layers import FULL, LINEAR
from kvplan.hf.parameters import blocks as b
from kvplan.hf.parameters import ends as e
from kvplan.hf.parameters import latent as mla
from kvplan.hf.parameters import mixture as moe
from kvplan.hf.parameters import ordinary as plain
from kvplan.hf.parameters.blocks import Experts, Tensors, UncountedError
from kvplan.hf.parameters.mamba import PART, UNSURE, where_of
from kvplan.hf.parameters.ordinary import Counter, Recipe


def gated_delta_net(config: Config, hidden: int, *, joined: bool, kept: str | None) -> Tensors:
    """Qwen3NextGatedDeltaNet; Qwen3.5 keeps the four input matrices apart (``joined`` off)."""
    keys = b.size(config, "linear_num_key_heads") * b.size(config, "linear_key_head_dim")
    heads, width = b.size(config, "linear_num_value_heads"), b.size(config, "linear_value_head_dim")
    values = heads * width
    mixed = 2 * keys + values
    rows = (
        {"in_proj_qkvz": mixed + values, "in_proj_ba": 2 * heads}
        if joined
        else {"in_proj_qkv": mixed, "in_proj_z": values, "in_proj_b": heads, "in_proj_a": heads}
    )
    made = [b.linear(PART, f"linear_attn.{name}", count, hidden) for name, count in rows.items()]
    return (
        *(tensor for group in made for tensor in group),
        *b.vector(PART, "linear_attn.conv1d", mixed, b.size(config, "linear_conv_kernel_dim")),
        *b.vector(PART, "linear_attn.dt_bias", heads),
        *b.vector(PART, "linear_attn.A_log", heads, dtype=kept),
        *b.vector(PART, "linear_attn.norm", width, dtype=kept),
        *b.linear(PART, "linear_attn.out_proj", hidden, values),
    )


def qwen_next(*, joined: bool, experts: bool, kept: str | None) -> Counter:
    """Qwen3-Next and Qwen3.5: an output gate doubles q_proj (modeling_qwen3_next.py)."""

    def read(config: Config) -> Tensors:
        config.require("attn_output_gate", True)
        layers = plain.layer_count(config, "num_hidden_layers")
        types = qwen_types(config, layers)
        shape = replace(plain.attention_shape(config, plain.QWEN3), gated=True)
        hidden = shape.hidden
        state = gated_delta_net(config, hidden, joined=joined, kept=kept)
        made = b.placed(b.attention(shape), where_of(types, FULL))
        made += b.placed(state, where_of(types, LINEAR))
        made += b.placed(b.norms(plain.PRE_NORM, hidden), range(layers))
        return (
            made
            + _qwen_feed_forward(config, hidden, layers, experts=experts)
            + plain.outside_layers(config, Recipe(), hidden)
        )

    return read


def qwen_types(config: Config, layers: int) -> Sequence[str]:
    """``layer_types``, else every ``full_attention_interval``-th layer full."""
    types = config.per_layer("layer_types", config.words("layer_types"), layers)
    if types is not None:
        return types
    period = b.size(config, "full_attention_interval")
    return [LINEAR if (index + 1) % period else FULL for index in range(layers)]


def _qwen_feed_forward(config: Config, hidden: int, layers: int, *, experts: bool) -> Tensors:
    sparse = moe.every_step(config, layers) if experts else ()
    rest = sorted(set(range(layers)) - set(sparse))
    made: Tensors = ()
    if rest:
        made = b.placed(b.gated_mlp(hidden, b.size(config, "intermediate_size")), rest)
    if sparse:
        block = moe.experts_of(config, moe.QWEN_SHARED, hidden, layers)
        made += b.placed(b.experts(block), sparse)
    return made


def lfm2(config: Config) -> Tensors:
    """Short convolutions; ``block_auto_adjust_ff_dim`` shrinks the MLP (modeling_lfm2.py)."""
    layers = plain.layer_count(config, "num_hidden_layers")
    attends = config.numbers("full_attn_idxs")
    types = config.per_layer("layer_types", config.words("layer_types"), layers)
    if types is None and attends is None:
        b.uncounted(config, "layer_types")
    names = ("q_layernorm", "k_layernorm")
    recipe = Recipe(qk_norm="head", qk_norm_names=names, out="out_proj")
    shape = plain.attention_shape(config, recipe)
    hidden, where = shape.hidden, attends if types is None else where_of(types, FULL)
    rest = sorted(set(range(layers)) - set(where or ()))
    mlp = b.gated_mlp(hidden, _lfm2_width(config), root="feed_forward", names=("w1", "w3", "w2"))
    every = (*mlp, *b.norms(("operator_norm", "ffn_norm"), hidden))
    last = Recipe(tie=True, tie_keys=("tie_embedding",), final="model.embedding_norm")
    return (
        b.placed(b.attention(shape), sorted(set(where or ())))
        + b.placed(_short_conv(config, hidden), rest)
        + b.placed(every, range(layers))
        + plain.outside_layers(config, last, hidden)
    )


def _short_conv(config: Config, hidden: int) -> Tensors:
    bias = config.flag("conv_bias")
    extra = b.vector(PART, "conv.conv.bias", hidden) if bias else ()
    return (
        *b.vector(PART, "conv.conv", hidden, b.size(config, "conv_L_cache")),
        *extra,
        *b.linear(PART, "conv.in_proj", 3 * hidden, hidden, bias=bias),
        *b.linear(PART, "conv.out_proj", hidden, hidden, bias=bias),
    )


def _lfm2_width(config: Config) -> int:
    """Lfm2MLP: two thirds, times a factor, rounded up. The flag has to be in the file."""
    width = b.size(config, "intermediate_size", "block_ff_dim")
    if "block_auto_adjust_ff_dim" not in config.raw:
        b.uncounted(config, "block_auto_adjust_ff_dim")
    if not config.flag("block_auto_adjust_ff_dim"):
        return width
    factor = config.raw.get("block_ffn_dim_multiplier")
    if factor not in (None, 1, 1.0):
        raise UncountedError("block_ffn_dim_multiplier is not 1")
    multiple = b.size(config, "block_multiple_of")
    return -(-(2 * width // 3) // multiple) * multiple


def minimax_01(config: Config) -> Tensors:
    """Lightning layers make queries, keys and values at once, and gate them (MiniMaxConfig)."""
    layers = plain.layer_count(config, "num_hidden_layers")
    types = config.per_layer("layer_types", config.words("layer_types"), layers)
    flags = config.per_layer("attn_type_list", config.numbers("attn_type_list"), layers)
    if types is None and flags is None:
        b.uncounted(config, "attn_type_list")
    shape = plain.attention_shape(config, Recipe())
    hidden, inner = shape.hidden, shape.heads * shape.width
    full = (
        [i for i, flag in enumerate(flags) if flag == 1] if flags else where_of(types or (), FULL)
    )
    if config.maybe("shared_intermediate_size", least=0):
        raise UncountedError("shared_intermediate_size is set, which no published file has")
    mixture = Experts(
        hidden=hidden,
        width=b.size(config, "intermediate_size"),
        count=b.size(config, "num_local_experts"),
        used=b.size(config, *moe.USED),
        root="block_sparse_moe",
        expert_names=("w1", "w3", "w2"),
    )
    lightning = (
        *b.norm("self_attn.norm", inner),
        *b.linear("attention", "self_attn.qkv_proj", 3 * inner, hidden),
        *b.linear("attention", "self_attn.out_proj", hidden, inner),
        *b.linear("attention", "self_attn.output_gate", inner, hidden),
    )
    every = (*b.experts(mixture), *b.norms(plain.PRE_NORM, hidden))
    return (
        b.placed(lightning, sorted(set(range(layers)) - set(full)))
        + b.placed(b.attention(shape), full)
        + b.placed(every, range(layers))
        + plain.outside_layers(config, Recipe(), hidden)
    )


def kimi_linear(config: Config) -> Tensors:
    """Kimi delta attention and NoPE MLA (modeling_kimi_linear.py), and what Kimi-K3 adds."""
    b.refuse_flags(config, "tie_word_embeddings")
    layers, hidden = plain.layer_count(config, "num_hidden_layers"), b.size(config, "hidden_size")
    where = kda_layers(config, layers)
    full = sorted(set(range(layers)) - set(where))
    made = b.placed(_kda(config, hidden), where)
    made += b.placed(mla.latent(config, hidden), full)
    made += b.placed(b.norms(plain.PRE_NORM, hidden), range(layers))
    made += _k3_extras(config, hidden, full, layers)
    return (
        made
        + _kimi_feed_forward(config, hidden, layers)
        + e.ends(config, hidden, tie=e.tied(config, default=False))
    )


def kda_layers(config: Config, layers: int) -> list[int]:
    """Layers of ``kda_layers``, which counts from one, or of ``layer_types``."""
    section = config.section("linear_attn_config")
    if section is not None:
        given = section.numbers("kda_layers") or []
        return sorted({index - 1 for index in given if 1 <= index <= layers})
    types = config.per_layer("layer_types", config.words("layer_types"), layers)
    if types is None:
        b.uncounted(config, "linear_attn_config")
    return where_of(types, LINEAR)


def _kda(config: Config, hidden: int) -> Tensors:
    """Queries, keys and values, a short convolution each, a decay gate and an output gate."""
    figures = dict(geo.kimi_delta(config))
    heads, width = int(figures["num_heads"]), int(figures["head_dim"])
    inner, root, whole_gate = heads * width, "self_attn", _whole_gate(config)
    kept = "fp32" if whole_gate else UNSURE
    made: Tensors = ()
    for letter in "qkv":
        made += b.linear(PART, f"{root}.{letter}_proj", inner, hidden)
        made += b.vector(
            PART, f"{root}.{letter}_conv1d", inner, int(figures["conv_kernel"]), dtype=kept
        )
    for letter in "f" if whole_gate else "fg":
        made += b.linear(PART, f"{root}.{letter}_a_proj", width, hidden)
        made += b.linear(PART, f"{root}.{letter}_b_proj", inner, width)
    return (
        *made,
        *(b.linear(PART, f"{root}.g_proj", inner, hidden) if whole_gate else ()),
        *b.vector(PART, f"{root}.dt_bias", inner, dtype="fp32"),
        *b.vector(PART, f"{root}.A_log", _k3_rows(heads) if whole_gate else heads, dtype="fp32"),
        *b.linear(PART, f"{root}.b_proj", heads, hidden),
        *b.vector(PART, f"{root}.o_norm", width, dtype=kept),
        *b.linear(PART, f"{root}.o_proj", hidden, inner),
    )


def _whole_gate(config: Config) -> bool:
    section = config.section("linear_attn_config")
    return section is not None and section.flag("use_full_rank_gate")


def _k3_rows(heads: int) -> int:
    """Kimi-K3 stores 128 decay figures for its 96 heads; other counts were never published."""
    if heads != 96:  # noqa: PLR2004 - Kimi-K3's own
        raise UncountedError("use_full_rank_gate is on with other than Kimi-K3's 96 heads")
    return 128


def _k3_extras(config: Config, hidden: int, full: list[int], layers: int) -> Tensors:
    """Kimi-K3: an output gate beside MLA, and residual attention over blocks of layers.

    Its 1,560,860,324,864 B of tensors are met exactly so.
    """
    made: Tensors = ()
    if config.flag("mla_use_output_gate"):
        inner = b.size(config, "num_attention_heads") * b.size(config, "v_head_dim")
        made += b.placed(b.linear("attention", "self_attn.g_proj", inner, hidden), full)
    if config.maybe("attn_res_block_size") is None:
        return made
    every: Tensors = ()
    for name, part in (("self_attention_res", "attention"), ("mlp_res", "other")):
        every += (*b.norm(f"{name}_norm", hidden), *b.vector(part, f"{name}_proj", 1, hidden))
    return (
        *made,
        *b.placed(every, range(layers)),
        *b.norm("model.output_attn_res_norm", hidden),
        *b.vector("other", "model.output_attn_res_proj", 1, hidden),
    )


def _kimi_feed_forward(config: Config, hidden: int, layers: int) -> Tensors:
    mixture = moe.Mixture(
        count=("num_experts",),
        shared="num_shared_experts",
        correction="buffer",
        block=Experts(
            hidden=0,
            width=0,
            count=0,
            used=0,
            root="block_sparse_moe",
            shared="block_sparse_moe.shared_experts",
        ),
    )
    sparse = moe.dense_first(config, layers)
    dense = b.gated_mlp(hidden, b.size(config, "intermediate_size"))
    block = moe.experts_of(config, mixture, hidden, layers)
    rest = sorted(set(range(layers)) - set(sparse))
    return b.placed(dense, rest) + b.placed(_kimi_experts(config, block), sparse)


def _kimi_experts(config: Config, block: Experts) -> Tensors:
    narrow = config.maybe("routed_expert_hidden_size")
    if narrow is None:
        return b.experts(block)
    outer = [tensor for tensor in b.experts(block) if tensor.part != "routed_experts"]
    root = block.root
    normed = config.flag("latent_moe_use_norm")
    return (
        *outer,
        *b.routed(block, narrow),
        *b.vector("other", f"{root}.routed_expert_down_proj", narrow, block.hidden),
        *b.vector("other", f"{root}.routed_expert_up_proj", block.hidden, narrow),
        *(b.norm(f"{root}.routed_expert_norm", narrow) if normed else ()),
    )


COUNTERS: dict[str, Counter] = {
    "qwen3_next": qwen_next(joined=True, experts=True, kept=UNSURE),
    "qwen3_5_text": qwen_next(joined=False, experts=False, kept=UNSURE),
    "qwen3_5_moe_text": qwen_next(joined=False, experts=True, kept=UNSURE),
    "lfm2": lfm2,
    **dict.fromkeys(("minimax", "minimax_text_01", "minimax_m1"), minimax_01),
    "kimi_linear": kimi_linear,
}
