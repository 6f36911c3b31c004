"""The common decoder: attention on every layer, and an MLP or experts after it.

A style is data: what the class of transformers 5.24.0 (or the model's own code, where it has no
class) puts into a layer, and the keys of its figures. Constants stand for what no key changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeVar

from kvplan.hf import geometry as geo
from kvplan.hf.blocks.attention import Attention, QkNorm
from kvplan.hf.blocks.base import Block, Layer, Model, Norms, Reader, uncounted_layers
from kvplan.hf.blocks.ends import Embedding, Head, tied
from kvplan.hf.blocks.mlp import GATED, MLP
from kvplan.hf.config import Config, Flag
from kvplan.hf.families.experts import Mixture, Sparse, every_layer, experts
from kvplan.hf.families.windows import Windows, never
from kvplan.hf.geometry import DENSE, MULTI_HEAD, OWN_HEAD_DIM, Dialect
from kvplan.hf.layers import layer_count

INPUT, POST = "input_layernorm", "post_attention_layernorm"
PRE_NORM = (INPUT, POST)
SANDWICH = (*PRE_NORM, "pre_feedforward_layernorm", "post_feedforward_layernorm")
POST_NORM = (POST, "post_feedforward_layernorm")
B = TypeVar("B", bound=Block)
ATTENTION_BIAS: Flag = ("attention_bias", False)
MLP_BIAS: Flag = ("mlp_bias", False)


@dataclass(frozen=True, kw_only=True)
class Style:
    """How one family spells and builds its layers, and what stands at both ends of them."""

    dialect: Dialect = DENSE
    layers: tuple[str, ...] = ("num_hidden_layers",)
    hidden: tuple[str, ...] = ("hidden_size",)
    width: tuple[str, ...] = ("intermediate_size",)
    widening: int | None = None
    """The MLP's width over the hidden size where no key says it, and the class does."""
    vocab: tuple[str, ...] = ("vocab_size",)
    positions: tuple[str, ...] = ()
    """Keys of the rows of learned positions, ``transformer.wpe``."""
    bias: Flag = False
    out_bias: Flag | Literal["same"] = "same"
    qk_norm: QkNorm = ""
    qk_norm_key: Flag = True
    qk_norm_bias: bool = False
    qk_norm_names: tuple[str, str] = ("q_norm", "k_norm")
    sinks: str = ""
    norms: tuple[str, ...] = PRE_NORM
    norm_bias: bool = False
    final: str = "model.norm"
    gated: bool = True
    mlp_bias: Flag = False
    mlp_names: tuple[str, ...] = GATED
    mlp_root: str = "mlp"
    fused: str = ""
    out: str = "o_proj"
    attn_root: str = "self_attn"
    root: str = "model.layers"
    ends: tuple[str, str] = ("model.embed_tokens", "lm_head")
    head_bias: Flag = False
    tie: bool | None = False
    """What the class does where no key says it; None where the file has to."""
    tie_keys: tuple[str, ...] = ()
    uncounted_if: tuple[str, ...] = ()
    """Flags that add or take away tensors, and that no published file sets."""


Forward = Callable[[Config, Style, int], Sequence[Block]]
"""What stands after attention in each of so many layers. Raises UncountedError."""


def attention(config: Config, style: Style) -> Attention:
    """The style's attention with the file's figures, full."""
    heads, bias = geo.heads(config, style.dialect), config.on(style.bias)
    return Attention(
        heads=heads.count,
        kv=heads.kv,
        width=heads.width,
        bias=bias,
        out_bias=bias if style.out_bias == "same" else config.on(style.out_bias),
        qk_norm=style.qk_norm if config.on(style.qk_norm_key) else "",
        norm_bias=style.qk_norm_bias,
        norm_names=style.qk_norm_names,
        sinks=style.sinks,
        fused=style.fused,
        out=style.out,
        root=style.attn_root,
    )


def mlp(config: Config, style: Style, *, width: int | None = None) -> MLP:
    """The style's dense MLP. Raises UncountedError where its width is not in the file."""
    return MLP(
        width=_width(config, style) if width is None else width,
        gated=style.gated,
        bias=config.on(style.mlp_bias),
        names=style.mlp_names,
        root=style.mlp_root,
    )


def _width(config: Config, style: Style) -> int:
    if style.widening and not any(map(config.has, style.width)):
        return style.widening * config.size(*style.hidden)
    return config.size(*style.width)


def norms(style: Style) -> Norms:
    """The norms of one layer."""
    return Norms(names=style.norms, bias=style.norm_bias)


def ends(config: Config, style: Style) -> Layer:
    """Embedding, last norm (none where it has no name) and, untied, the head."""
    rows = config.size(*style.vocab)
    name, head = style.ends
    positions = style.positions and (
        Embedding(rows=config.size(*style.positions), name="transformer.wpe"),
    )
    final = (style.final,) if style.final else ()
    return (
        *positions,
        Embedding(rows=rows, name=name),
        Norms(names=final, bias=style.norm_bias),
        Head(
            rows=rows,
            tied=tied(config, style.tie, *style.tie_keys),
            bias=config.on(style.head_bias),
            name=head,
        ),
    )


def model(
    config: Config,
    style: Style,
    layers: Sequence[Layer],
    others: Callable[[], Sequence[Layer]],
    *,
    draft: Sequence[Layer] = (),
    layers_key: str = "",
) -> Model:
    """The layers between the style's ends."""
    return Model(
        layers=tuple(layers),
        layers_key=layers_key or layer_count(config, *style.layers).origin,
        hidden=partial(config.size, *style.hidden),
        others=others,
        ends=partial(ends, config, style),
        root=style.root,
        draft=tuple(draft),
    )


def stack(
    config: Config,
    style: Style,
    layers: Sequence[tuple[B, ...]],
    mixture: Mixture | None = None,
    sparse: Sparse = every_layer,
    *,
    beside: Callable[[Config, B], Layer] = lambda *_: (),
    forward: Forward | None = None,
    draft: Sequence[Layer] = (),
) -> Model:
    """These layers with the style's norms, and an MLP or experts (or what ``forward`` gives).

    ``beside`` says what stands beside the first block of a layer, such as a gate.
    """

    def others() -> Sequence[Layer]:
        config.uncounted_if(*style.uncounted_if)
        count, around = len(layers), norms(style)
        blocks = (
            forward(config, style, count)
            if forward
            else feed_forward(config, style, count, mixture, sparse)
        )
        return [
            (block, around, *beside(config, layer[0]))
            for block, layer in zip(blocks, layers, strict=True)
        ]

    return model(config, style, layers, others, draft=draft)


def decoder(
    style: Style,
    windows: Windows = never,
    mixture: Mixture | None = None,
    sparse: Sparse = every_layer,
    extra: Callable[[Config, Attention], Layer] = lambda *_: (),
    *,
    heads: Callable[[Config, Style], Attention] = attention,
    forward: Forward | None = None,
) -> Reader:
    """The reader of a family that is nothing but its style, with attention on every layer."""

    def read(config: Config) -> Model:
        full = heads(config, style)
        plan = windows(config, layer_count(config, *style.layers))
        layers = [(full.sliding(span) if span else full,) for span in plan.windows]
        draft = layers[:1] * plan.draft
        return stack(
            config, style, layers, mixture, sparse, beside=extra, forward=forward, draft=draft
        )

    return read


def uncounted(read: Reader, reason: str) -> Reader:
    """The same caches, and no weights."""
    return lambda config: replace(read(config), others=uncounted_layers(reason))


def others(
    config: Config,
    style: Style,
    layers: int,
    mixture: Mixture | None = None,
    sparse: Sparse = every_layer,
) -> list[Layer]:
    """What a layer of this style has beside its attention."""
    config.uncounted_if(*style.uncounted_if)
    around = norms(style)
    return [(block, around) for block in feed_forward(config, style, layers, mixture, sparse)]


def feed_forward(
    config: Config,
    style: Style,
    layers: int,
    mixture: Mixture | None = None,
    sparse: Sparse = every_layer,
) -> list[Block]:
    """Each layer's MLP, or the experts in its place; either is read only where a layer has it."""
    dense = partial(mlp, config, style)
    if mixture is None:
        return [dense()] * layers
    where = set(sparse(config, layers))
    if not where:
        config.ignore(*mixture.keys)
        return [dense()] * layers
    return alternate(layers, where, experts(config, mixture, layers), dense)


def alternate(
    layers: int, where: Iterable[int], moe: Block, dense: Callable[[], Block]
) -> list[Block]:
    """Experts in these layers and an MLP in the rest, which is read only where there is one."""
    sparse = set(where)
    rest = dense() if len(sparse) < layers else moe
    return [moe if index in sparse else rest for index in range(layers)]


PLAIN = Style()
LLAMA = Style(dialect=MULTI_HEAD, bias=ATTENTION_BIAS, mlp_bias=MLP_BIAS)
OWN_WIDTH = Style(dialect=OWN_HEAD_DIM, bias=ATTENTION_BIAS)
