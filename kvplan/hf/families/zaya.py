"""Zyphra's ZAYA: attention whose queries and keys are convolved, and experts (modeling_zaya.py).

Source: transformers 5.24.0; compressed convolutional attention is arXiv 2510.04476.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import (
    Block,
    Cache,
    Layer,
    Model,
    Tensors,
    buffer,
    cache,
    extra,
    linear,
    norm,
    vector,
)
from kvplan.hf.blocks.mlp import Experts
from kvplan.hf.config import MAX_TOKENS, Config, Figure
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import ATTENTION_BIAS, Style, attention, ends, model, norms
from kvplan.hf.families.experts import QWEN, experts
from kvplan.hf.geometry import OWN_HEAD_DIM
from kvplan.hf.layers import by_type, layer_count, layer_types

_STYLE = Style(
    dialect=OWN_HEAD_DIM, bias=ATTENTION_BIAS, tie=True, head_bias=("lm_head_bias", False)
)
_FULL, _SLIDING = "hybrid", "hybrid_sliding"


@dataclass(frozen=True, kw_only=True)
class _Convolved(Block):
    """Two convolutions over queries and keys, and values of which half are one token late."""

    heads: Attention
    kernels: tuple[int, int]

    def caches(self) -> tuple[Cache, ...]:
        """The tail of both convolutions' input, and the last token's late values."""
        heads, reach = self.heads, sum(self.kernels) - 1
        channels = (heads.heads + heads.kv) * heads.width
        late = heads.kv * heads.width // 2
        return (
            *heads.caches(),
            cache("short_conv", channels=channels, conv_kernel=reach),
            cache("state", elements=late, heads=heads.kv, split="replicate", state_dtype="model"),
        )

    def weights(self, hidden: int) -> Tensors:
        heads, part, root = self.heads, "attention", "self_attn.qkv_proj"
        queries, values = heads.heads * heads.width, heads.kv * heads.width
        rows = {"q_proj": queries, "k_proj": values}
        rows |= dict.fromkeys(("v_proj_current", "v_proj_delayed"), values // 2)
        for name, out in rows.items():
            yield from linear(part, f"{root}.{name}", out, hidden, bias=heads.bias)
        channels = queries + values
        for name, group, kernel in (
            ("depthwise", 1, self.kernels[0]),
            ("grouped", heads.width, self.kernels[1]),
        ):
            yield from vector(part, f"{root}.conv_qk_{name}", channels, group, kernel)
            yield from vector(part, f"{root}.conv_qk_{name}.bias", channels)
        yield from vector(part, "self_attn.qk_norm.temp", heads.kv)
        yield from linear(part, "self_attn.o_proj", hidden, queries, bias=heads.bias)


@dataclass(frozen=True, kw_only=True)
class _Experts(Experts):
    """The router is an MLP of ``narrow_router``; one of its classes skips the experts.

    ``carried``: it is scaled by the state of the layer before.
    """

    narrow_router: int
    carried: bool = True

    def _router(self, hidden: int) -> Tensors:
        part, root, width = "router", f"{self.root}.gate", self.narrow_router
        yield from vector(part, f"{root}.down_proj", width, hidden)
        yield from vector(part, f"{root}.down_proj.bias", width)
        if self.carried:
            yield from vector(part, f"{root}.router_states_scale", width)
        yield from norm(f"{root}.router_mlp.norm", width, part=part)
        for name in ("fc1", "fc2"):
            yield from vector(part, f"{root}.router_mlp.{name}", width, width)
            yield from vector(part, f"{root}.router_mlp.{name}.bias", width)
        yield from vector(part, f"{root}.router_mlp.out_proj", self.count + 1, width)
        yield from buffer(part, f"{root}.balancing_biases", self.count + 1)


def _zaya(config: Config) -> Model:
    """``layer_types``: hybrid, or hybrid_sliding with ``sliding_window``."""
    count, full = layer_count(config), attention(config, _STYLE)
    if full.kv * full.width % 2:
        config.refuse("num_key_value_heads × head_dim is odd, and half of the values are late")
    kernels = tuple(config.count(key, most=64) for key in ("cca_time0", "cca_time1"))
    plain = _Convolved(heads=full, kernels=(kernels[0], kernels[1]))
    if sum(kernels) < 3:  # noqa: PLR2004 - no token before this one is seen
        config.refuse("cca_time0 and cca_time1 are 1: nothing is convolved")
    kinds = {_FULL: lambda: (plain,), _SLIDING: lambda: (_slides(config, plain),)}
    layers = by_type(config, layer_types(config, count, lambda _: _FULL), kinds)
    config.ignore("sliding_window")
    shaped = model(config, _STYLE, layers, partial(_others, config, count))
    return replace(shaped, ends=partial(_ends, config))


def _slides(config: Config, plain: _Convolved) -> _Convolved:
    window: Figure = config.count("sliding_window", most=MAX_TOKENS)
    return replace(plain, heads=plain.heads.sliding(window))


def _others(config: Config, layers: int) -> Sequence[Layer]:
    one = experts(config, QWEN, layers)
    figures = {key: getattr(one, key) for key in ("expert", "count", "used")}
    moe = _Experts(**figures, narrow_router=config.size("router_hidden_size"))
    hidden = config.size("hidden_size")
    scales = extra(
        *(
            vector("other", f"{place}_residual_scale.{name}", hidden)
            for place in ("post_attention", "post_mlp")
            for name in (
                "hidden_states_scale",
                "hidden_states_bias",
                "residual_scale",
                "residual_bias",
            )
        )
    )
    beside: Layer = (norms(_STYLE), scales)
    return [(replace(moe, carried=index > 0), *beside) for index in range(layers)]


def _ends(config: Config) -> Layer:
    hidden = config.size("hidden_size")
    names = ("input_hidden_states_scale", "input_hidden_states_bias")
    return (*ends(config, _STYLE), extra(*(vector("other", f"model.{n}", hidden) for n in names)))


FAMILIES: dict[str, Family] = {"zaya": Family(read=_zaya)}
