"""Google's Gemma."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import (
    Layer,
    Model,
    Norms,
    buffer,
    extra,
    linear,
    vector,
)
from kvplan.hf.blocks.ends import Embedding
from kvplan.hf.blocks.mlp import MLP, Experts
from kvplan.hf.config import MAX_SIZE, Config, UncountedError
from kvplan.hf.families.base import Beside, Family, Wrapper
from kvplan.hf.families.decoder import (
    ATTENTION_BIAS,
    INPUT,
    SANDWICH,
    Style,
    attention,
    decoder,
    ends,
    model,
)
from kvplan.hf.families.experts import USED
from kvplan.hf.families.gemma_vision import gemma4, siglip
from kvplan.hf.families.windows import by_name, mixed
from kvplan.hf.geometry import OWN_HEAD_DIM
from kvplan.hf.layers import FULL, layer_count, layer_types, one_full_in

_GEMMA = Style(dialect=OWN_HEAD_DIM, bias=ATTENTION_BIAS, tie=True)
_GEMMA3 = replace(_GEMMA, norms=SANDWICH, qk_norm="head")
_PATTERN = ("sliding_window_pattern", "_sliding_window_pattern")
_PER_LAYER = ("hidden_size_per_layer_input", "vocab_size_per_layer_input")


def _gemma3(config: Config) -> Model:
    """One full layer in six (Gemma3TextConfig); bidirectional use halves the window."""
    config.require("use_bidirectional_attention", False)
    return decoder(_GEMMA3, mixed(6, _PATTERN))(config)


def _gemma3n(config: Config) -> Model:
    """The last ``num_kv_shared_layers`` read an earlier layer's cache (Gemma3nTextConfig).

    Per-layer embeddings, AltUp streams and LAuReL stand beside the layers.
    """
    full, count = attention(config, _GEMMA3), layer_count(config)
    types = layer_types(config, count, one_full_in(5))
    config.ignore(*_PER_LAYER)
    heads = [full.sliding(span) if span else full for span in by_name(config, types)]

    def others() -> Sequence[Layer]:
        every = (*_altup(config), *_per_layer_input(config), Norms(names=SANDWICH))
        return [(MLP(width=width), *every) for width in _widths(config, count)]

    stacked = model(config, _GEMMA3, _last_shared(config, heads, types), others)
    return replace(
        stacked,
        ends=lambda: (*_streams(config), *_per_layer_ends(config, count), *ends(config, _GEMMA3)),
        assumptions=_published_keys(config),
    )


def _published_keys(config: Config) -> tuple[str, ...]:
    """Google's own files hold projections that the class and vLLM leave out (gemma3n.py:316)."""
    shared = config.count("num_kv_shared_layers", least=0)
    said = (
        f"the k and v projections of the {shared} layers that share a cache are not counted: "
        "Google's own checkpoints store them, engines do not load them"
    )
    return (said,) if shared else ()


def _widths(config: Config, layers: int) -> Sequence[int]:
    """The MLP's width of each layer: a number or a list."""
    key = "intermediate_size"
    if not isinstance(config.raw.get(key), list):
        return [config.size(key)] * layers
    widths = config.per_layer(key, config.numbers(key), layers) or ()
    return [int(config.within(key, width, 1, MAX_SIZE)) for width in widths]


def _altup(config: Config) -> Layer:
    """AltUp mixes streams, LAuReL adds a low rank."""
    hidden, part = config.size("hidden_size"), "other"
    streams, rank = config.size("altup_num_inputs"), config.size("laurel_rank")
    block = extra(
        vector(part, "altup.correct_output_scale", hidden),
        linear(part, "altup.correction_coefs", streams, streams),
        linear(part, "altup.prediction_coefs", streams**2, streams),
        linear(part, "altup.modality_router", streams, hidden),
        linear(part, "laurel.linear_left", rank, hidden),
        linear(part, "laurel.linear_right", hidden, rank),
    )
    return (block, Norms(names=("altup.router_norm", "laurel.post_laurel_norm")))


def _streams(config: Config) -> Layer:
    hidden, streams = config.size("hidden_size"), config.size("altup_num_inputs")
    names = (
        f"model.{name}.{index}"
        for name in ("altup_projections", "altup_unembed_projections")
        for index in range(streams - 1)
    )
    return (extra(*(linear("other", name, hidden, hidden) for name in names)),)


def _per_layer_input(config: Config) -> Layer:
    """One narrow vector of a second embedding for each layer."""
    hidden, width = config.size("hidden_size"), config.size(_PER_LAYER[0], least=0)
    if not width:
        return ()
    gate = linear("other", "per_layer_input_gate", width, hidden)
    projection = linear("other", "per_layer_projection", hidden, width)
    return (extra(gate, projection), Norms(names=("post_per_layer_input_norm",)))


def _per_layer_ends(config: Config, layers: int) -> Layer:
    hidden, width = config.size("hidden_size"), config.size(_PER_LAYER[0], least=0)
    if not width:
        return ()
    rows = config.size(_PER_LAYER[1])
    projection = "model.per_layer_model_projection"
    return (
        Embedding(rows=rows, width=layers * width, name="model.embed_tokens_per_layer"),
        extra(linear("other", projection, layers * width, hidden)),
        Norms(names=("model.per_layer_projection_norm",), width=width),
    )


def _gemma4(config: Config) -> Model:
    """Full layers have ``global_head_dim`` and, with ``attention_k_eq_v``, fewer KV heads.

    Keys and values are both cached even so: one is rotated, the other is not
    (modeling_gemma4.py:1222-1236). Some models have experts beside the MLP.
    """
    config.require("use_bidirectional_attention", False, "vision")
    config.ignore(*_PER_LAYER)
    count, local = layer_count(config), attention(config, _GEMMA3)
    types = layer_types(config, count, None)
    if types[-1] != FULL:
        config.refuse("the last layer is not full attention, as the class makes it")
    wide = _wide(config, local, types)
    heads = [local.sliding(span) if span else wide for span in by_name(config, types)]
    layers = _last_shared(config, heads, types)

    def others() -> Sequence[Layer]:
        if config.has("per_layer_config"):
            problem = "per_layer_config, the form that transformers saves, is not counted"
            raise UncountedError(problem)
        own = count - config.size("num_kv_shared_layers", least=0)
        return _gemma4_layers(config, count, own)

    stacked = model(config, _GEMMA3, layers, others)
    return replace(
        stacked,
        ends=lambda: (*_per_layer_ends(config, count), *ends(config, _GEMMA3)),
        assumptions=_published_keys(config),
    )


def _gemma4_layers(config: Config, layers: int, own: int) -> list[Layer]:
    """``use_double_wide_mlp`` doubles the width of layers that share keys and values."""
    width = config.size("intermediate_size")
    wide = 2 * width if config.flag("use_double_wide_mlp") else width
    every = (
        Norms(names=SANDWICH),
        extra(buffer("other", "layer_scalar", 1, dtype=None)),
        *_per_layer_input(config),
        *(_gemma4_experts(config) if config.flag("enable_moe_block") else ()),
    )
    narrow, double = MLP(width=width), MLP(width=wide)
    return [(narrow if index < own else double, *every) for index in range(layers)]


def _gemma4_experts(config: Config) -> Layer:
    count, hidden = config.size("num_experts"), config.size("hidden_size")
    used = config.size("top_k_experts", *USED)
    expert = MLP(width=config.size("moe_intermediate_size"))
    routed = Experts(expert=expert, count=count, used=used, root="moe").routed(hidden)
    router = extra(
        vector("router", "router.scale", hidden),
        vector("router", "router.per_expert_scale", count),
        vector("router", "router.proj", count, hidden),
    )
    names = ("post_feedforward_layernorm", "pre_feedforward_layernorm")
    return (extra(routed), router, Norms(names=(f"{names[0]}_1", *(f"{n}_2" for n in names))))


def _wide(config: Config, local: Attention, types: Sequence[str]) -> Attention:
    """Heads of the full layers; transformers 5.23.0 saves them as ``per_layer_config``."""
    section = config.section("per_layer_config")
    few = config.maybe("num_global_key_value_heads")
    if section is None:
        width, shared = config.count("global_head_dim"), config.flag("attention_k_eq_v")
        kv = few if shared and few is not None else local.kv
        return replace(local, width=width, kv=kv, values=not shared)
    config.ignore("global_head_dim", "attention_k_eq_v")
    # transformers pads the indices with zeros: "05", "11".
    section = replace(section, raw={key.lstrip("0") or "0": v for key, v in section.raw.items()})
    indices = [str(index) for index, kind in enumerate(types) if kind == FULL]
    entries = [section.raw[index] for index in indices if index in section.raw]
    if set(section.raw) != set(indices) or any(entry != entries[0] for entry in entries):
        config.refuse("per_layer_config is not the same for all full layers, and for these alone")
    first = section.section(indices[0])
    if first is None or set(first.raw) - {"head_dim", "num_key_value_heads"}:
        config.refuse("per_layer_config changes more than head_dim and num_key_value_heads")
    kv = first.maybe("num_key_value_heads") or local.kv
    return replace(local, width=first.count("head_dim"), kv=kv)


def _last_shared(
    config: Config, heads: Sequence[Attention], types: Sequence[str]
) -> tuple[Layer, ...]:
    """The layers with the last ``num_kv_shared_layers`` owning no cache."""
    shared = config.count("num_kv_shared_layers", least=0)
    own = len(heads) - shared
    if shared and (own < 1 or set(types[:own]) != set(types)):
        config.refuse("num_kv_shared_layers leaves no layer of each type to share from")
    reading = [replace(one, kind="kv_shared", span=None) for one in heads[own:]]
    return tuple((one,) for one in (*heads[:own], *reading))


FAMILIES: dict[str, Family] = {
    "gemma": Family(read=decoder(_GEMMA)),
    "gemma2": Family(
        read=decoder(replace(_GEMMA, norms=SANDWICH), mixed(2)),
    ),
    "vaultgemma": Family(
        read=decoder(replace(_GEMMA, norms=(INPUT, "pre_feedforward_layernorm")), mixed(2))
    ),
    "gemma3_text": Family(
        read=_gemma3,
        context_is_stretched=True,
    ),
    "gemma3n_text": Family(
        read=_gemma3n,
        classes=("gemma3n",),
        context_is_stretched=True,
    ),
    "gemma4_text": Family(read=_gemma4),
}

WRAPPERS: dict[str, Wrapper] = {
    "paligemma": Wrapper(),
    "gemma3": Wrapper(tower=siglip),
    "gemma3n": Wrapper(
        beside=(Beside("vision_config", "vision tower"), Beside("audio_config", "audio tower")),
    ),
    "gemma4": Wrapper(tower=gemma4, beside=(Beside("audio_config", "audio tower", optional=True),)),
}
