"""Counts of families with Mamba layers.

Sources: the modeling files of transformers 5.23.0 named beside each function.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvplan.hf import geometry as geo
from kvplan.hf.config import MAX_LAYERS, Config, shown
from kvplan.hf.geometry import MULTI_HEAD, OWN_HEAD_DIM
from kvplan.hf.layers import FULL, LINEAR, Cache
from kvplan.hf.parameters import blocks as b
from kvplan.hf.parameters import ends as e
from kvplan.hf.parameters import mixture as moe
from kvplan.hf.parameters import ordinary as plain
from kvplan.hf.parameters.blocks import Experts, Tensors
from kvplan.hf.parameters.ordinary import ATTENTION_BIAS, Counter, Recipe

PART = "recurrent"

UNSURE = "unsure"
"""Decay figures, which some checkpoints store as fp32: no key says which."""


def where_of(types: Sequence[str], *kinds: str) -> list[int]:
    """Layers of these kinds."""
    return [index for index, kind in enumerate(types) if kind in kinds]


def mamba1(config: Config, root: str, *, keys: dict[str, str], normed: bool = False) -> Tensors:
    """MambaMixer, and Jamba's with norms of dt, B and C (``normed``)."""
    hidden = b.size(config, "hidden_size")
    inner = b.size(config, keys["inner"]) if "inner" in keys else 0
    inner = inner or hidden * b.size(config, keys["expand"])
    state, kernel = b.size(config, keys["state"]), b.size(config, keys["conv"])
    rank = _dt_rank(config, keys["rank"], hidden)
    bias, conv_bias = config.flag(keys["bias"]), config.flag(keys["conv_bias"], default=True)
    widths = {"dt": rank, "b": state, "c": state} if normed else {}
    return (
        *b.vector(PART, f"{root}.A_log", inner, state, dtype=UNSURE),
        *b.vector(PART, f"{root}.D", inner, dtype=UNSURE),
        *_conv(root, inner, kernel, bias=conv_bias),
        *b.linear(PART, f"{root}.in_proj", 2 * inner, hidden, bias=bias),
        *b.linear(PART, f"{root}.x_proj", rank + 2 * state, inner),
        *b.linear(PART, f"{root}.dt_proj", inner, rank, bias=True),
        *b.linear(PART, f"{root}.out_proj", hidden, inner, bias=bias),
        *(t for k, w in widths.items() for t in b.norm(f"{root}.{k}_layernorm", w, part="norm")),
    )


def _dt_rank(config: Config, key: str, hidden: int) -> int:
    """``auto`` and no key at all mean hidden size over 16, rounded up."""
    given = None if config.raw.get(key) == "auto" else config.maybe(key)
    config.ignore(key)
    return int(given) if given is not None else -(-hidden // 16)


def _conv(root: str, channels: int, kernel: int, *, bias: bool) -> Tensors:
    extra = b.vector(PART, f"{root}.conv1d.bias", channels) if bias else ()
    return (*b.vector(PART, f"{root}.conv1d", channels, kernel), *extra)


def mamba2(
    figures: Cache,
    hidden: int,
    root: str,
    *,
    bias: bool,
    conv_bias: bool,
    normed: bool = True,
    kept: str | None = UNSURE,
) -> Tensors:
    """Mamba2Mixer on the shape that the cache reader found."""
    found = dict(figures)
    heads, groups = int(found["num_heads"]), int(found["n_groups"])
    inner, state = heads * int(found["head_dim"]), int(found["d_state"])
    channels = inner + 2 * groups * state
    return (
        *(
            tensor
            for name in ("dt_bias", "A_log", "D")
            for tensor in b.vector(PART, f"{root}.{name}", heads, dtype=kept)
        ),
        *_conv(root, channels, int(found["conv_kernel"]), bias=conv_bias),
        *b.linear(PART, f"{root}.in_proj", inner + channels + heads, hidden, bias=bias),
        *(b.norm(f"{root}.norm", inner, part=PART) if normed else ()),
        *b.linear(PART, f"{root}.out_proj", hidden, inner, bias=bias),
    )


def jamba(config: Config) -> Tensors:
    """Mamba-1 but for one layer in ``attn_layer_period``, experts in every second (JambaConfig)."""
    layers = plain.layer_count(config, "num_hidden_layers")
    period, offset = b.size(config, "attn_layer_period"), config.count("attn_layer_offset", least=0)
    attends = [index for index in range(layers) if index % period == offset]
    shape = plain.attention_shape(config, Recipe())
    keys = {
        "expand": "mamba_expand",
        "state": "mamba_d_state",
        "conv": "mamba_d_conv",
        "rank": "mamba_dt_rank",
        "bias": "mamba_proj_bias",
        "conv_bias": "mamba_conv_bias",
    }
    made = b.placed(b.attention(shape), attends)
    rest = sorted(set(range(layers)) - set(attends))
    made += b.placed(mamba1(config, "mamba", keys=keys, normed=True), rest)
    made += b.placed(b.norms((plain.INPUT, "pre_ff_layernorm"), shape.hidden), range(layers))
    return (
        made
        + _jamba_feed_forward(config, shape.hidden, layers)
        + plain.outside_layers(config, Recipe(final="model.final_layernorm"), shape.hidden)
    )


def _jamba_feed_forward(config: Config, hidden: int, layers: int) -> Tensors:
    count, width = b.size(config, "num_experts"), b.size(config, "intermediate_size")
    sparse: list[int] = []
    if count > 1:
        period = b.size(config, "expert_layer_period")
        offset = b.size(config, "expert_layer_offset", least=0)
        sparse = [index for index in range(layers) if index % period == offset]
    block = Experts(
        hidden=hidden,
        width=width,
        count=count,
        used=b.size(config, *moe.USED) if sparse else 1,
        root="feed_forward",
        router="router",
    )
    rest = sorted(set(range(layers)) - set(sparse))
    return b.placed(b.experts(block), sparse) + b.placed(
        b.gated_mlp(hidden, width, root="feed_forward"), rest
    )


def granite_hybrid(config: Config) -> Tensors:
    """GraniteMoeHybrid: a shared MLP in every layer, experts where ``num_local_experts`` is set."""
    layers = plain.layer_count(config, "num_hidden_layers")
    types = config.per_layer("layer_types", config.words("layer_types"), layers)
    if types is None:
        b.uncounted(config, "layer_types")
    shape = plain.attention_shape(config, Recipe(dialect=MULTI_HEAD, bias=ATTENTION_BIAS))
    hidden = shape.hidden
    made = b.placed(b.attention(shape), where_of(types, "attention", FULL))
    states = where_of(types, "mamba", LINEAR)
    if states:
        made += b.placed(_mamba2_d(config, hidden), states)
    shared = b.size(config, "shared_intermediate_size")
    names = ("input_linear", "output_linear")
    every = (
        *b.gated_mlp(hidden, shared, part="shared_experts", root="shared_mlp", names=names),
        *b.norms(plain.PRE_NORM, hidden),
        *_granite_experts(config, hidden),
    )
    tie = Recipe(tie=False)
    return made + b.placed(every, range(layers)) + plain.outside_layers(config, tie, hidden)


def _granite_experts(config: Config, hidden: int) -> Tensors:
    if "num_local_experts" not in config.raw:
        b.uncounted(config, "num_local_experts")
    count = config.maybe("num_local_experts", least=0)
    if not count:
        return ()
    block = Experts(
        hidden=hidden,
        width=b.size(config, "intermediate_size"),
        count=count,
        used=b.size(config, *moe.USED),
        root="block_sparse_moe",
        router="router.layer",
    )
    return b.experts(block)


def _mamba2_d(config: Config, hidden: int, *, normed: bool = True) -> Tensors:
    return mamba2(
        geo.mamba2_d(config),
        hidden,
        "mamba",
        bias=config.flag("mamba_proj_bias"),
        conv_bias=config.flag("mamba_conv_bias", default=True),
        normed=normed,
    )


def bamba(config: Config) -> Tensors:
    """Mamba-2 and an MLP in every layer but those of ``attn_layer_indices`` (BambaConfig)."""
    layers = plain.layer_count(config, "num_hidden_layers")
    attends = config.numbers("attn_layer_indices")
    if attends is None:
        b.uncounted(config, "attn_layer_indices")
    shape = plain.attention_shape(config, Recipe(dialect=MULTI_HEAD, bias=ATTENTION_BIAS))
    hidden = shape.hidden
    dense = b.gated_mlp(
        hidden,
        b.size(config, "intermediate_size"),
        bias=config.flag("mlp_bias"),
        root="feed_forward",
    )
    rest = sorted(set(range(layers)) - set(attends))
    made = b.placed(b.attention(shape), sorted(set(attends)))
    made += b.placed(_mamba2_d(config, hidden), rest)
    every = (*dense, *b.norms((plain.INPUT, "pre_ff_layernorm"), hidden))
    last = Recipe(final="model.final_layernorm")
    return made + b.placed(every, range(layers)) + plain.outside_layers(config, last, hidden)


def falcon_h1(config: Config) -> Tensors:
    """Attention and Mamba-2 side by side; the mixer's norm with ``mamba_rms_norm``."""
    layers = plain.layer_count(config, "num_hidden_layers")
    shape = plain.attention_shape(config, Recipe(bias=ATTENTION_BIAS))
    hidden = shape.hidden
    b.refuse_flags(config, "mamba_proj_bias", "projectors_bias")
    if "mamba_rms_norm" not in config.raw:
        b.uncounted(config, "mamba_rms_norm")
    every = (
        *b.attention(shape),
        *_mamba2_d(config, hidden, normed=config.flag("mamba_rms_norm")),
        *b.gated_mlp(
            hidden,
            b.size(config, "intermediate_size"),
            bias=config.flag("mlp_bias"),
            root="feed_forward",
        ),
        *b.norms((plain.INPUT, "pre_ff_layernorm"), hidden),
    )
    last = Recipe(final="model.final_layernorm")
    return b.placed(every, range(layers)) + plain.outside_layers(config, last, hidden)


_MAMBA_KEYS = {
    "expand": "expand",
    "state": "state_size",
    "conv": "conv_kernel",
    "rank": "time_step_rank",
    "bias": "use_bias",
    "conv_bias": "use_conv_bias",
}


def falcon_mamba_model(config: Config) -> Tensors:
    """Mamba-1 throughout, ``intermediate_size`` wide inside (FalconMambaConfig)."""
    return mamba_model(config, {**_MAMBA_KEYS, "inner": "intermediate_size"})


def mamba_model(config: Config, keys: dict[str, str] = _MAMBA_KEYS) -> Tensors:
    """Mamba-1 throughout (MambaConfig)."""
    hidden, layers = b.size(config, "hidden_size"), plain.layer_count(config, "num_hidden_layers")
    return _backbone(config, mamba1(config, "mixer", keys=keys), layers, hidden, tie=True)


def mamba2_model(config: Config) -> Tensors:
    """Mamba-2 throughout (Mamba2Config)."""
    figures = geo.mamba2(
        config,
        heads="num_heads",
        width="head_dim",
        groups="n_groups",
        state="state_size",
        conv="conv_kernel",
    )
    hidden, layers = b.size(config, "hidden_size"), plain.layer_count(config, "num_hidden_layers")
    mixer = mamba2(
        figures,
        hidden,
        "mixer",
        bias=config.flag("use_bias"),
        conv_bias=config.flag("use_conv_bias", default=True),
    )
    return _backbone(config, mixer, layers, hidden, tie=False)


def _backbone(config: Config, mixer: Tensors, layers: int, hidden: int, *, tie: bool) -> Tensors:
    every = (*mixer, *b.norm("norm", hidden))
    return b.placed(every, range(layers), "backbone.layers") + e.ends(
        config,
        hidden,
        tie=e.tied(config, tie),
        final="backbone.norm_f",
        names=("backbone.embeddings", "lm_head"),
    )


def nemotron_h(config: Config) -> Tensors:
    """One mixer and one norm a layer: Mamba-2, attention, MLP or experts (NemotronHConfig).

    Decay figures and the router are stored in the model's dtype (Nemotron-3-Nano: only the
    router's balancing bias is fp32).
    """
    flags = ("attention_bias", "mlp_bias", "use_bias", "mamba_proj_bias", "tie_word_embeddings")
    b.refuse_flags(config, *flags)
    types = nemotron_types(config)
    hidden = b.size(config, "hidden_size")
    blocks = {
        "mamba": lambda: _nemotron_mamba(config, hidden),
        "attention": lambda: _nemotron_attention(config),
        "mlp": lambda: b.plain_mlp(
            hidden,
            b.size(config, "intermediate_size"),
            bias=config.flag("mlp_bias"),
            root="mixer",
        ),
        "moe": lambda: _nemotron_experts(config, hidden),
    }
    root = "backbone.layers"
    made = b.placed(b.norm("norm", hidden), range(len(types)), root)
    for kind in dict.fromkeys(types):
        made += b.placed(blocks[kind](), where_of(types, kind), root)
    return made + e.ends(
        config,
        hidden,
        tie=e.tied(config, default=False),
        final="backbone.norm_f",
        names=("backbone.embeddings", "lm_head"),
    )


def nemotron_types(config: Config) -> list[str]:
    """``hybrid_override_pattern`` or ``layers_block_type``, checked by the cache reader."""
    letters = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
    alias = {LINEAR: "mamba", FULL: "attention"}
    pattern = config.word("hybrid_override_pattern")
    if pattern is not None:
        types = [letters.get(letter, letter) for letter in pattern]
    else:
        types = [alias.get(name, name) for name in config.words("layers_block_type") or ()]
    unknown = sorted(set(types) - set(letters.values()))
    if unknown or not 0 < len(types) <= MAX_LAYERS:
        config.refuse(f"the layer pattern has {len(types)} layers, {shown(unknown[:1])} unknown")
    return types


def _nemotron_mamba(config: Config, hidden: int) -> Tensors:
    figures = geo.mamba2(
        config,
        heads="mamba_num_heads",
        width="mamba_head_dim",
        groups="n_groups",
        state="ssm_state_size",
        conv="conv_kernel",
    )
    return mamba2(
        figures,
        hidden,
        "mixer",
        bias=config.flag("mamba_proj_bias"),
        conv_bias=config.flag("use_conv_bias", default=True),
        kept=None,
    )


def _nemotron_attention(config: Config) -> Tensors:
    dialect = replace(OWN_HEAD_DIM, head_dim=("head_dim", "attention_head_dim"))
    recipe = Recipe(dialect=dialect, bias=ATTENTION_BIAS, attn_root="mixer")
    return b.attention(plain.attention_shape(config, recipe))


def _nemotron_experts(config: Config, hidden: int) -> Tensors:
    """``moe_latent_size`` shrinks what the routed experts see, between two matrices of its own."""
    latent = config.maybe("moe_latent_size")
    shared = b.size(config, "moe_shared_expert_intermediate_size", least=0)
    block = Experts(
        hidden=hidden,
        width=b.size(config, "moe_intermediate_size"),
        count=b.size(config, "n_routed_experts"),
        used=b.size(config, *moe.USED),
        gated=False,
        bias=config.flag("mlp_bias"),
        correction="buffer",
        shared_width=shared * b.size(config, "n_shared_experts", least=0),
        root="mixer",
        shared="mixer.shared_experts",
    )
    if latent is None:
        return b.experts(block)
    outer = [tensor for tensor in b.experts(block) if tensor.part != "routed_experts"]
    return (
        *outer,
        *b.routed(block, latent),
        *b.linear("other", "mixer.fc1_latent_proj", latent, hidden, bias=block.bias),
        *b.linear("other", "mixer.fc2_latent_proj", hidden, latent, bias=block.bias),
    )


COUNTERS: dict[str, Counter] = {
    "jamba": jamba,
    "granitemoehybrid": granite_hybrid,
    "bamba": bamba,
    "falcon_h1": falcon_h1,
    "mamba": mamba_model,
    "falcon_mamba": falcon_mamba_model,
    "mamba2": mamba2_model,
    "nemotron_h": nemotron_h,
}
