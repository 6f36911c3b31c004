"""GPT-2 and what descends from it, GPT-NeoX, StarCoder and gpt-oss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import Block, Layer, Model, extra, vector
from kvplan.hf.blocks.mlp import GATED
from kvplan.hf.config import MAX_LAYERS, Config, Figure
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import Style, attention, decoder, mlp
from kvplan.hf.families.experts import MIXTRAL
from kvplan.hf.families.windows import WindowPlan, always, full, mixed
from kvplan.hf.geometry import OWN_HEAD_DIM, UNGROUPED, Dialect
from kvplan.hf.quantization import Published

_HEADS = Dialect(("n_head", "num_attention_heads"), ("n_embd", "hidden_size"), (), ())
GPT2 = Style(
    dialect=_HEADS,
    layers=("n_layer", "num_hidden_layers"),
    hidden=("n_embd", "hidden_size"),
    width=("n_inner",),
    widening=4,
    positions=("n_positions", "max_position_embeddings"),
    bias=True,
    fused="c_attn",
    out="c_proj",
    attn_root="attn",
    gated=False,
    mlp_bias=True,
    mlp_names=("c_fc", "c_proj"),
    norms=("ln_1", "ln_2"),
    norm_bias=True,
    root="transformer.h",
    final="transformer.ln_f",
    ends=("transformer.wte", "lm_head"),
    tie=True,
)
_GPTJ = replace(
    GPT2,
    positions=(),
    bias=False,
    fused="",
    out="out_proj",
    mlp_names=("fc_in", "fc_out"),
    norms=("ln_1",),
    head_bias=True,
    tie=False,
)
_CODEGEN = replace(_GPTJ, fused="qkv_proj")
_GPT_NEO = replace(
    GPT2,
    dialect=Dialect(("num_heads", "num_attention_heads"), ("hidden_size",), (), ()),
    layers=("num_layers", "num_hidden_layers"),
    hidden=("hidden_size",),
    width=("intermediate_size",),
    positions=("max_position_embeddings",),
    bias=False,
    out_bias=True,
    fused="",
    out="out_proj",
    attn_root="attn.attention",
)
_GPT_NEOX = Style(
    dialect=UNGROUPED,
    bias=("attention_bias", True),
    norm_bias=True,
    gated=False,
    mlp_bias=True,
    mlp_names=("dense_h_to_4h", "dense_4h_to_h"),
    fused="query_key_value",
    out="dense",
    attn_root="attention",
    root="gpt_neox.layers",
    final="gpt_neox.final_layer_norm",
    ends=("gpt_neox.embed_in", "embed_out"),
)
_JAPANESE = replace(
    _GPT_NEOX,
    dialect=UNGROUPED,
    bias=False,
    mlp_bias=False,
    root="gpt_neox_japanese.layers",
    final="gpt_neox_japanese.final_layer_norm",
    ends=("gpt_neox_japanese.embed_in", "embed_out"),
    tie=True,
)
_STARCODER2 = Style(
    bias=("use_bias", True),
    norm_bias=True,
    gated=False,
    mlp_bias=("use_bias", True),
    mlp_names=("c_fc", "c_proj"),
    tie=True,
)
_GPT_OSS = Style(dialect=OWN_HEAD_DIM, bias=("attention_bias", True), sinks="sinks")
_GPT_OSS_EXPERTS = replace(
    MIXTRAL,
    used=("num_experts_per_tok", "experts_per_token"),
    root="mlp",
    router="router",
    router_bias=True,
    bias=True,
    names=GATED,
)


def _bigcode_heads(config: Config, style: Style) -> Attention:
    """``multi_query`` is one KV head (GPTBigCodeConfig)."""
    heads = attention(config, style)
    if config.flag("multi_query", default=None):
        return replace(heads, kv=Figure(1, config.name("multi_query")))
    return heads


def _local(config: Config, layers: Figure) -> WindowPlan:
    """``attention_layers``, which ``attention_types`` gives in short: [[[a, b], times], ...].

    Local layers mask what is further back and keep it all the same (transformers 5.24.0
    modeling_gpt_neo.py; no engine has the class).
    """
    types = config.per_layer("attention_layers", config.words("attention_layers"), layers)
    runs = _runs(config)
    if types is None:
        types = config.per_layer("attention_types", runs, layers)
    elif runs is not None and list(types) != runs:
        config.refuse("attention_layers and attention_types contradict each other")
    if types is None:
        config.missing("attention_layers", "attention_types")
    if not set(types) <= {"global", "local"}:
        config.refuse("attention_layers names other layers than global and local")
    config.ignore("window_size")
    return WindowPlan([None] * layers)


def _runs(config: Config) -> list[str] | None:
    """What ``attention_types`` says in full."""
    key, value = config.value("attention_types")
    types: list[str] = []
    for run in config.expect(key, value, list, "a list") if key else ():
        names, times = (*run, None, None)[:2] if isinstance(run, list) else (None, None)
        if not isinstance(names, list) or type(times) is not int or not 0 < times <= MAX_LAYERS:
            config.refuse(f"{config.name(key)} has to be a list of [[types], times]")
        if len(types) + len(names) * times > MAX_LAYERS:
            config.refuse(f"{config.name(key)} names more than {MAX_LAYERS} layers")
        types += [str(name) for name in names] * times
    return types if key else None


def _japanese(config: Config) -> Model:
    """The last layer's output has a bias, no other matrix has one (GPTNeoXJapaneseAttention)."""
    factor = partial(config.maybe, "intermediate_multiple_size", most=1_000)

    def wide(config: Config, style: Style, layers: int) -> Sequence[Block]:
        return [mlp(config, style, width=(factor() or 4) * config.size("hidden_size"))] * layers

    plain = decoder(_JAPANESE, forward=wide)(config)

    def others() -> Sequence[Layer]:
        bias = vector("attention", "attention.dense_bias", config.size("hidden_size"))
        *first, last = plain.others()
        return [*first, (*last, extra(bias))]

    return replace(plain, others=others)


FAMILIES: dict[str, Family] = {
    "gpt2": Family(read=decoder(GPT2)),
    "gpt-sw3": Family(read=decoder(GPT2), classes=("gpt2lmhead",)),
    "codegen": Family(read=decoder(_CODEGEN)),
    "gpt_neo": Family(read=decoder(_GPT_NEO, _local)),
    "gpt_neox_japanese": Family(read=_japanese),
    "gpt_bigcode": Family(read=decoder(GPT2, full, heads=_bigcode_heads)),
    "gptj": Family(read=decoder(_GPTJ)),
    "gpt_neox": Family(read=decoder(_GPT_NEOX)),
    "starcoder2": Family(read=decoder(_STARCODER2, always)),
    "gpt_oss": Family(
        read=decoder(_GPT_OSS, mixed(every=2), _GPT_OSS_EXPERTS),
        published=Published(mxfp4_experts=True),
    ),
}
