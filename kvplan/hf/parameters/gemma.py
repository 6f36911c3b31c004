"""Counts of Gemma-3n and Gemma-4."""

from __future__ import annotations

from dataclasses import replace

from kvplan.hf.config import MAX_SIZE, Config
from kvplan.hf.layers import FULL, SLIDING
from kvplan.hf.parameters import blocks as b
from kvplan.hf.parameters import ends as e
from kvplan.hf.parameters import mixture as moe
from kvplan.hf.parameters import ordinary as plain
from kvplan.hf.parameters.blocks import Attention, Experts, Tensors, UncountedError
from kvplan.hf.parameters.ordinary import Counter

GEMMA3N_DEFAULTS = {"altup_num_inputs": 4, "laurel_rank": 64}
"""Of Gemma3nTextConfig (transformers 5.23.0), the same in both published sizes."""


def gemma3n(config: Config) -> Tensors:
    """Per-layer embeddings, AltUp streams and LAuReL beside the layer (Gemma3nTextConfig)."""
    config = replace(config, defaults=GEMMA3N_DEFAULTS, defaults_source="Gemma3nTextConfig")
    layers = plain.layer_count(config, "num_hidden_layers")
    shape = plain.attention_shape(config, replace(plain.GEMMA, qk_norm="head"))
    hidden, shared = shape.hidden, b.size(config, "num_kv_shared_layers", least=0)
    own = max(layers - shared, 0)
    made = b.placed(b.attention(shape), range(own))
    made += b.placed(b.attention(replace(shape, own_kv=False)), range(own, layers))
    made += b.placed(_gemma3n_extras(config, hidden), range(layers))
    made += b.placed(b.norms(plain.SANDWICH, hidden), range(layers))
    made += _gemma3n_mlps(config, hidden, layers)
    streams = b.size(config, "altup_num_inputs")
    for name in ("altup_projections", "altup_unembed_projections"):
        for index in range(streams - 1):
            made += b.linear("other", f"model.{name}.{index}", hidden, hidden)
    return (
        made
        + _per_layer_inputs(config, hidden, layers)
        + plain.outside_layers(config, replace(plain.GEMMA, vocab_default=262_400), hidden)
    )


def _gemma3n_mlps(config: Config, hidden: int, layers: int) -> Tensors:
    if not isinstance(config.raw.get("intermediate_size"), list):
        width = b.size(config, "intermediate_size")
        return b.placed(b.gated_mlp(hidden, width), range(layers))
    key = "intermediate_size"
    widths = config.per_layer(key, config.numbers(key), layers) or ()
    made: Tensors = ()
    for width in sorted(set(widths)):
        checked = int(config.within(key, width, 1, MAX_SIZE))
        where = [index for index, value in enumerate(widths) if value == width]
        made += b.placed(b.gated_mlp(hidden, checked), where)
    return made


def _gemma3n_extras(config: Config, hidden: int) -> Tensors:
    streams, rank = b.size(config, "altup_num_inputs"), b.size(config, "laurel_rank")
    part = "other"
    return (
        *b.vector(part, "altup.correct_output_scale", hidden),
        *b.linear(part, "altup.correction_coefs", streams, streams),
        *b.linear(part, "altup.prediction_coefs", streams**2, streams),
        *b.linear(part, "altup.modality_router", streams, hidden),
        *b.norm("altup.router_norm", hidden),
        *b.linear(part, "laurel.linear_left", rank, hidden),
        *b.linear(part, "laurel.linear_right", hidden, rank),
        *b.norm("laurel.post_laurel_norm", hidden),
    )


def _per_layer_inputs(config: Config, hidden: int, layers: int) -> Tensors:
    """A second embedding with one narrow vector for each layer."""
    width = b.size(config, "hidden_size_per_layer_input", least=0)
    if not width:
        config.ignore("vocab_size_per_layer_input")
        return ()
    rows = b.size(config, "vocab_size_per_layer_input")
    inside = (
        *b.linear("other", "per_layer_input_gate", width, hidden),
        *b.linear("other", "per_layer_projection", hidden, width),
        *b.norm("post_per_layer_input_norm", hidden),
    )
    return (
        *b.placed(inside, range(layers)),
        *e.embedding(rows, layers * width, "model.embed_tokens_per_layer"),
        *b.linear("other", "model.per_layer_model_projection", layers * width, hidden),
        *b.norm("model.per_layer_projection_norm", width),
    )


def gemma4(config: Config) -> Tensors:
    """Full layers are wider and, with ``attention_k_eq_v``, have no v_proj; some have experts."""
    layers = plain.layer_count(config, "num_hidden_layers")
    types = config.per_layer("layer_types", config.words("layer_types"), layers)
    if types is None:
        b.uncounted(config, "layer_types")
    if config.section("per_layer_config") is not None:
        raise UncountedError("per_layer_config, the form that transformers saves, is not counted")
    local = plain.attention_shape(config, replace(plain.GEMMA, qk_norm="head"))
    hidden, wide = local.hidden, _gemma4_wide(config, local)
    own = layers - b.size(config, "num_kv_shared_layers", least=0)
    made: Tensors = ()
    for kind, shape in ((FULL, wide), (SLIDING, local)):
        where = [index for index, name in enumerate(types) if name == kind]
        late = replace(shape, own_kv=False)
        made += b.placed(b.attention(shape), [i for i in where if i < own])
        made += b.placed(b.attention(late), [i for i in where if i >= own])
    made += b.placed(b.norms(plain.SANDWICH, hidden), range(layers))
    made += b.placed(b.buffer("other", "layer_scalar", 1, dtype=None), range(layers))
    made += _gemma4_feed_forward(config, hidden, layers, own)
    return (
        made
        + _per_layer_inputs(config, hidden, layers)
        + plain.outside_layers(config, replace(plain.GEMMA, vocab_default=262_144), hidden)
    )


def _gemma4_wide(config: Config, local: Attention) -> Attention:
    shared = config.flag("attention_k_eq_v")
    few = config.maybe("num_global_key_value_heads") if shared else None
    return replace(
        local,
        width=b.size(config, "global_head_dim"),
        kv=int(few or local.kv),
        values=not shared,
    )


def _gemma4_feed_forward(config: Config, hidden: int, layers: int, own: int) -> Tensors:
    """``use_double_wide_mlp`` doubles the width of layers that share keys and values."""
    width = b.size(config, "intermediate_size")
    wide = 2 * width if config.flag("use_double_wide_mlp") else width
    made = b.placed(b.gated_mlp(hidden, width), range(own))
    made += b.placed(b.gated_mlp(hidden, wide), range(own, layers))
    if config.flag("enable_moe_block"):
        made += b.placed(_gemma4_experts(config, hidden), range(layers))
    return made


def _gemma4_experts(config: Config, hidden: int) -> Tensors:
    count = b.size(config, "num_experts")
    block = Experts(
        hidden=hidden,
        width=b.size(config, "moe_intermediate_size"),
        count=count,
        used=b.size(config, "top_k_experts", *moe.USED),
        root="moe",
    )
    names = ("post_feedforward_layernorm_1", "post_feedforward_layernorm_2")
    return (
        *b.routed(block, hidden),
        *b.vector("router", "router.scale", hidden),
        *b.vector("router", "router.per_expert_scale", count),
        *b.vector("router", "router.proj", count, hidden),
        *b.norms((*names, "pre_feedforward_layernorm_2"), hidden),
    )


COUNTERS: dict[str, Counter] = {
    "gemma3n_text": gemma3n,
    "gemma4_text": gemma4,
}
