"""Counts of families with experts beside ordinary attention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from kvplan.hf.config import Config, shown
from kvplan.hf.geometry import DENSE, MULTI_HEAD, OWN_HEAD_DIM
from kvplan.hf.parameters import blocks as b
from kvplan.hf.parameters import ends as e
from kvplan.hf.parameters import ordinary as plain
from kvplan.hf.parameters.blocks import Attention, Experts, Tensors, UncountedError
from kvplan.hf.parameters.ordinary import ATTENTION_BIAS, LLAMA, Counter, Recipe

Sparse = Callable[[Config, int], tuple[int, ...]]

USED = ("num_experts_per_tok", "num_experts_per_token")

NO_FIGURES = Experts(hidden=0, width=0, count=0, used=0)
"""Of a family: filled in from the file."""


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Keys of the experts of one family.

    ``shared`` counts experts of the routed ones' width, ``shared_width`` is a width of its own;
    a file without either key has none, unless the class says otherwise (``needs_shared``).
    """

    count: tuple[str, ...]
    used: tuple[str, ...] = USED
    width: tuple[str, ...] = ("moe_intermediate_size",)
    shared: str = ""
    shared_width: str = ""
    needs_shared: bool = True
    correction: b.Kind | None = None
    block: Experts = NO_FIGURES
    """Everything about the experts that no key changes."""


def experts_of(config: Config, mixture: Mixture, hidden: int, layers: int) -> Experts:
    """The experts of one layer with the file's figures."""
    width = _same(config, mixture.width, layers)
    return replace(
        mixture.block,
        hidden=hidden,
        width=width,
        count=b.size(config, *mixture.count),
        used=_used(config, mixture, layers),
        correction=mixture.correction,
        shared_width=_shared_width(config, mixture, width, layers),
    )


def _used(config: Config, mixture: Mixture, layers: int) -> int:
    used, count = _same(config, mixture.used, layers), b.size(config, *mixture.count)
    if used > count:
        config.refuse(f"{mixture.used[0]} is {used}, of {count} experts")
    return used


def _same(config: Config, keys: tuple[str, ...], layers: int) -> int:
    given = [key for key in keys if config.has(key)]
    if not given:
        b.uncounted(config, *keys)
    return b.one_value(config, given[0], layers) or b.size(config, given[0])


def _shared_width(config: Config, mixture: Mixture, width: int, layers: int) -> int:
    if mixture.shared_width:
        if mixture.shared_width not in config.raw and mixture.needs_shared:
            b.uncounted(config, mixture.shared_width)
        return config.maybe(mixture.shared_width, least=0) or 0
    if not mixture.shared:
        return 0
    if mixture.shared not in config.raw and mixture.needs_shared:
        b.uncounted(config, mixture.shared)
    return (b.one_value(config, mixture.shared, layers) or 0) * width


def dense_first(config: Config, layers: int) -> tuple[int, ...]:
    """Experts from ``first_k_dense_replace`` on, in every ``moe_layer_freq``-th layer."""
    named = config.per_layer("mlp_layer_types", config.words("mlp_layer_types"), layers)
    if named is not None:
        return _by_name(config, named)
    if isinstance(config.raw.get("moe_layer_freq"), list):
        flags = config.per_layer("moe_layer_freq", config.numbers("moe_layer_freq"), layers) or ()
        return tuple(index for index, flag in enumerate(flags) if flag)
    first = b.size(config, "first_k_dense_replace", least=0)
    step = config.maybe("moe_layer_freq") or 1
    return tuple(index for index in range(layers) if index >= first and index % step == 0)


def _by_name(config: Config, types: Sequence[str]) -> tuple[int, ...]:
    unknown = sorted(set(types) - {"dense", "sparse"})
    if unknown:
        config.refuse(f"mlp_layer_types names {shown(unknown[0])}; known: dense, sparse")
    return tuple(index for index, kind in enumerate(types) if kind == "sparse")


def every_step(config: Config, layers: int) -> tuple[int, ...]:
    """Every ``decoder_sparse_step``-th layer but ``mlp_only_layers`` (Qwen2MoeConfig)."""
    named = config.per_layer("mlp_layer_types", config.words("mlp_layer_types"), layers)
    if named is not None:
        return _by_name(config, named)
    only = set(config.numbers("mlp_only_layers") or ())
    step = config.maybe("decoder_sparse_step", least=0) or 1
    return tuple(i for i in range(layers) if i not in only and (i + 1) % step == 0)


def with_experts(recipe: Recipe, mixture: Mixture, sparse: Sparse | None = None) -> Counter:
    """The count of a family whose recipe has experts."""

    def read(config: Config) -> Tensors:
        layers = plain.layer_count(config, *recipe.layer_keys)

        def made(config: Config, hidden: int) -> Experts:
            return experts_of(config, mixture, hidden, layers)

        return plain.counter(replace(recipe, experts=made, sparse=sparse))(config)

    return read


def llama4(config: Config) -> Tensors:
    """Every ``interleave_moe_layer_step``-th layer has experts; its QK norm has no weights."""
    config.ignore("use_qk_norm")
    layers = plain.layer_count(config, "num_hidden_layers")
    step = config.maybe("interleave_moe_layer_step") or 1
    given = config.numbers("moe_layers")
    sparse = tuple(given) if given else tuple(range(step - 1, layers, step))
    if any(not 0 <= index < layers for index in sparse):
        config.refuse("moe_layers names a layer that does not exist")
    shape = plain.attention_shape(config, Recipe(bias=ATTENTION_BIAS))
    hidden, width = shape.hidden, b.size(config, "intermediate_size")
    made = b.placed((*b.attention(shape), *b.norms(plain.PRE_NORM, hidden)), range(layers))
    rest = sorted(set(range(layers)) - set(sparse))
    if rest:
        dense = b.gated_mlp(hidden, b.size(config, "intermediate_size_mlp"), root="feed_forward")
        made += b.placed(dense, rest)
    mixture = Experts(
        hidden=hidden,
        width=width,
        count=b.size(config, "num_local_experts"),
        used=b.size(config, *USED),
        shared_width=width,
        root="feed_forward",
        router="router",
        shared="feed_forward.shared_expert",
    )
    made += b.placed(b.experts(mixture), sparse)
    return made + plain.outside_layers(config, Recipe(vocab_default=202_048), hidden)


def dbrx(config: Config) -> Tensors:
    """Experts under ``ffn_config``, one matrix for queries, keys and values (DbrxConfig)."""
    ffn = config.section("ffn_config")
    if ffn is None:
        b.uncounted(config, "ffn_config")
    layers, hidden = plain.layer_count(config, "n_layers"), b.size(config, "d_model")
    heads = b.size(config, "n_heads")
    section = config.section("attn_config")
    kv = b.size(section, "kv_n_heads") if section else heads
    width = b.whole(config, hidden, heads, "d_model")
    shape = Attention(
        hidden=hidden,
        heads=heads,
        kv=kv,
        width=width,
        fused="Wqkv",
        out="out_proj",
        root="norm_attn_norm.attn",
    )
    block = Experts(
        hidden=hidden,
        width=b.size(ffn, "ffn_hidden_size"),
        count=b.size(ffn, "moe_num_experts"),
        used=b.size(ffn, "moe_top_k"),
        root="ffn",
        router="router.layer",
        experts="experts.mlp",
        expert_names=("w1", "v1", "w2"),
    )
    names = ("norm_attn_norm.norm_1", "norm_attn_norm.norm_2")
    every = (*b.attention(shape), *b.norms(names, hidden), *b.experts(block))
    return b.placed(every, range(layers), "transformer.blocks") + e.ends(
        config,
        hidden,
        tie=e.tied(config, default=False),
        final="transformer.norm_f",
        names=("transformer.wte", "lm_head"),
    )


DEEPSEEK = Mixture(count=("n_routed_experts",), shared="n_shared_experts")

_QWEN_MOE = Mixture(count=("num_experts",))

QWEN_SHARED = Mixture(
    count=("num_experts",),
    shared_width="shared_expert_intermediate_size",
    block=Experts(hidden=0, width=0, count=0, used=0, shared_gate=True, shared="mlp.shared_expert"),
)

MIXTRAL = Mixture(
    count=("num_local_experts",),
    width=("intermediate_size",),
    block=replace(NO_FIGURES, root="block_sparse_moe", expert_names=("w1", "w3", "w2")),
)

_GPT_OSS = replace(
    MIXTRAL,
    used=("num_experts_per_tok", "experts_per_token"),
    block=replace(NO_FIGURES, router="router", bias=True, router_bias=True),
)

_GLM_RECIPE = Recipe(
    dialect=DENSE,
    bias=ATTENTION_BIAS,
    out_bias=False,
    qk_norm="head",
    qk_norm_key=("use_qk_norm", False),
)

GLM_MOE = replace(DEEPSEEK, correction="buffer")


def gpt_oss(config: Config) -> Tensors:
    """Sinks beside the heads, biases everywhere (GptOssConfig)."""
    recipe = Recipe(dialect=OWN_HEAD_DIM, bias=("attention_bias", True))
    layers = plain.layer_count(config, "num_hidden_layers")
    sinks = b.vector("attention", "self_attn.sinks", b.size(config, "num_attention_heads"))
    return with_experts(recipe, _GPT_OSS)(config) + b.placed(sinks, range(layers))


def _phimoe(config: Config) -> Tensors:
    recipe = Recipe(bias=ATTENTION_BIAS, norm_bias=True, head_bias=("lm_head_bias", False))
    return with_experts(recipe, MIXTRAL)(config)


def _minimax_m2(config: Config) -> Tensors:
    """``qk_norm_type`` per_layer norms all heads at once; the router is stored as fp32.

    Router dtype: 230,121,630,720 B of MiniMaxAI/MiniMax-M2 are met only so.
    """
    config.require("qk_norm_type", "per_layer")
    config.ignore("mlp_intermediate_size")
    if config.maybe("shared_intermediate_size", least=0):
        raise UncountedError("shared_intermediate_size is set, which no published M2 has")
    recipe = Recipe(dialect=OWN_HEAD_DIM, qk_norm="all", qk_norm_key=("use_qk_norm", True))
    bias: b.Kind | None = "buffer" if config.flag("use_routing_bias", default=True) else None
    block = replace(MIXTRAL.block, router_dtype="fp32")
    return with_experts(recipe, replace(MIXTRAL, correction=bias, block=block))(config)


_EXPERTS = ("num_experts", "num_local_experts")

_HY_V3 = replace(_QWEN_MOE, shared="num_shared_experts", correction="buffer")

_GRANITE = replace(
    MIXTRAL,
    block=replace(NO_FIGURES, root="block_sparse_moe", router="router.layer", shared="shared_mlp"),
)


def ernie_moe(config: Config) -> Tensors:
    """Experts in every ``moe_layer_interval``-th layer of a range (Ernie4_5_MoeConfig)."""
    mixture = Mixture(
        count=("moe_num_experts",),
        used=("moe_k",),
        shared="moe_num_shared_experts",
        correction="other",
        block=replace(NO_FIGURES, router="gate"),
    )
    recipe = Recipe(
        dialect=MULTI_HEAD, bias=("use_bias", False), mlp_bias=("use_bias", False), tie=True
    )
    b.refuse_flags(config, "use_bias")
    return with_experts(recipe, mixture, _ernie_layers)(config)


def _ernie_layers(config: Config, layers: int) -> tuple[int, ...]:
    first, last = (b.size(config, f"moe_layer_{end}_index", least=0) for end in ("start", "end"))
    step = b.size(config, "moe_layer_interval")
    return tuple(
        index for index in range(layers) if first <= index <= last and (index + 1) % step == 0
    )


COUNTERS: dict[str, Counter] = {
    "mixtral": with_experts(Recipe(), MIXTRAL),
    "phimoe": _phimoe,
    "qwen2_moe": with_experts(
        Recipe(bias=("qkv_bias", True), out_bias=False), QWEN_SHARED, every_step
    ),
    **dict.fromkeys(
        ("qwen3_moe", "qwen3_vl_moe_text"), with_experts(plain.QWEN3, _QWEN_MOE, every_step)
    ),
    "olmoe": with_experts(
        replace(LLAMA, mlp_bias=False, qk_norm="all"), replace(_QWEN_MOE, width=MIXTRAL.width)
    ),
    "flex_olmo": with_experts(plain.OLMO2, replace(_QWEN_MOE, width=MIXTRAL.width)),
    "mellum": with_experts(plain.QWEN3, replace(_QWEN_MOE, count=_EXPERTS), every_step),
    "granitemoe": with_experts(replace(LLAMA, mlp_bias=False), _GRANITE),
    "granitemoeshared": with_experts(
        replace(LLAMA, mlp_bias=False),
        replace(_GRANITE, shared_width="shared_intermediate_size"),
    ),
    "hy_v3": with_experts(
        Recipe(dialect=DENSE, bias=ATTENTION_BIAS, qk_norm="head", unless=("mlp_bias",)),
        replace(_HY_V3, count=_EXPERTS),
        dense_first,
    ),
    "solar_open": with_experts(Recipe(bias=ATTENTION_BIAS, out_bias=False), GLM_MOE),
    "exaone_moe": with_experts(Recipe(qk_norm="head"), _HY_V3, dense_first),
    "aria_text": with_experts(
        replace(LLAMA, unless=("mlp_bias",)),
        Mixture(
            count=("moe_num_experts",),
            used=("moe_topk",),
            width=("intermediate_size",),
            shared="moe_num_shared_experts",
        ),
    ),
    "ernie4_5_moe": ernie_moe,
    "gpt_oss": gpt_oss,
    "minimax_m2": _minimax_m2,
    "glm4_moe": with_experts(_GLM_RECIPE, GLM_MOE, dense_first),
    "dots1": with_experts(Recipe(bias=ATTENTION_BIAS, qk_norm="head"), GLM_MOE, dense_first),
    "deepseek": with_experts(
        replace(LLAMA, dialect=MULTI_HEAD, mlp_bias=False), DEEPSEEK, dense_first
    ),
    "dbrx": dbrx,
    "llama4_text": llama4,
}
