"""Building blocks of a checkpoint: tensors with their names and shapes, layer by layer.

Names are the checkpoint's own module names, because quantisation lists speak of these; ``*``
stands for the layer and, where there is a second one, for the expert.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import prod
from typing import Literal, NoReturn

from kvplan.hf.config import Config

Kind = Literal["linear", "other", "buffer"]
"""Linear layers may be quantised; a buffer is stored and is no parameter."""

Flag = bool | tuple[str, bool]
"""A constant, or a key and what the class takes where the file has none."""

Norm = Literal["", "head", "all", "each"]
"""Of queries and keys: none, one head's width, all heads at once, or every head its own."""


TOWERS = ("vision", "audio")
"""Parts that quantisers leave alone unless a list says otherwise."""


class UncountedError(Exception):
    """Something that a count needs is not in the file; ``reason`` says what."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Tensor:
    """Weights of one module, on each of its layers: ``shape`` is one matrix, (out, in).

    ``copies`` are the matrices of this shape in a layer (experts), ``used`` those that one token
    goes through. ``dtype`` is set where it is not the file's own; "unsure" where no figure of the
    file tells it.
    """

    part: str
    name: str
    shape: tuple[int, ...]
    kind: Kind = "other"
    copies: int = 1
    used: int | None = None
    layers: tuple[int, ...] | None = None
    dtype: str | None = None
    outside: bool = False
    """Stored in the checkpoint, but not in the language model's total."""

    @property
    def matrices(self) -> int:
        """How many of this shape there are in the model."""
        return self.copies * self.times

    @property
    def times(self) -> int:
        """Layers that have it."""
        return 1 if self.layers is None else len(self.layers)

    @property
    def elements(self) -> int:
        """Numbers that it holds in the whole model."""
        return prod(self.shape) * self.matrices

    @property
    def active(self) -> int:
        """Parameters that one token uses."""
        used = self.copies if self.used is None else self.used
        return prod(self.shape) * used * self.times


Tensors = tuple[Tensor, ...]


def uncounted(config: Config, *keys: str) -> NoReturn:
    """Raises UncountedError: none of these keys is in the file."""
    names = ", ".join(map(config.name, keys))
    raise UncountedError(f"{names} {'is' if len(keys) == 1 else 'are'} not in the file")


def size(config: Config, *keys: str, least: int = 1) -> int:
    """A whole number that the count needs. Raises UncountedError where no key is set."""
    figure = config.maybe(*keys, least=least)
    if figure is None:
        uncounted(config, *keys)
    return int(figure)


def switch(config: Config, flag: Flag) -> bool:
    """A constant, or the file's flag with the class's default (transformers 5.23.0)."""
    if isinstance(flag, bool):
        return flag
    key, default = flag
    return config.flag(key, default=default)


def refuse_flags(config: Config, *keys: str) -> None:
    """Raises UncountedError where one of these flags is on."""
    for key in keys:
        if config.flag(key):
            raise UncountedError(f"{config.name(key)} is on, and what that adds is not counted")


def whole(config: Config, total: int, parts: int, what: str) -> int:
    """A quotient without rest, or a contradiction."""
    if total % parts:
        config.refuse(f"{what}: {total} is no multiple of {parts}")
    return total // parts


def one_value(config: Config, key: str, layers: int) -> int | None:
    """A number, or a list that holds the same one for every layer (Hunyuan)."""
    if not isinstance(config.raw.get(key), list):
        return config.maybe(key, least=0)
    values = config.per_layer(key, config.numbers(key), layers) or ()
    if len(set(values)) != 1:
        raise UncountedError(f"{config.name(key)} differs from layer to layer")
    return int(config.within(key, values[0], 0, 1_000_000))


def linear(
    part: str, name: str, out: int, into: int, *, bias: bool = False, copies: int = 1
) -> Tensors:
    """A matrix of ``out`` rows and ``into`` columns, and its bias."""
    weight = Tensor(part, name, (out, into), "linear", copies)
    return (weight, Tensor(part, f"{name}.bias", (out,), copies=copies)) if bias else (weight,)


def vector(part: str, name: str, *shape: int, dtype: str | None = None) -> Tensors:
    """Parameters that no quantiser touches."""
    return (Tensor(part, name, shape, dtype=dtype),)


def buffer(part: str, name: str, *shape: int, dtype: str | None = "fp32") -> Tensors:
    """Stored in the checkpoint, and no parameter."""
    return (Tensor(part, name, shape, "buffer", dtype=dtype),)


def norm(name: str, width: int, *, bias: bool = False, part: str = "norm") -> Tensors:
    """A norm's weight, with a bias for LayerNorm."""
    extra = vector(part, f"{name}.bias", width) if bias else ()
    return (*vector(part, name, width), *extra)


def norms(names: Iterable[str], width: int, *, bias: bool = False) -> Tensors:
    """Norms of one width."""
    return tuple(tensor for name in names for tensor in norm(name, width, bias=bias))


def placed(tensors: Iterable[Tensor], layers: Iterable[int], root: str = "model.layers") -> Tensors:
    """The same tensors on each of these layers; none where there are none."""
    where = tuple(layers)
    if not where:
        return ()
    return tuple(replace(t, name=f"{root}.*.{t.name}", layers=where) for t in tensors)


def renamed(tensors: Iterable[Tensor], old: str, new: str) -> Tensors:
    """The tensors with one piece of their names replaced."""
    return tuple(replace(tensor, name=tensor.name.replace(old, new, 1)) for tensor in tensors)


def in_part(tensors: Iterable[Tensor], part: str) -> Tensors:
    """The tensors as another part of the model."""
    return tuple(replace(tensor, part=part) for tensor in tensors)


@dataclass(frozen=True, kw_only=True)
class Attention:
    """Shape of one layer's attention; widths are elements a head."""

    hidden: int
    heads: int
    kv: int
    width: int
    v_width: int | None = None
    bias: bool = False
    out_bias: bool = False
    norm: Norm = ""
    norm_bias: bool = False
    gated: bool = False
    """The output gate doubles q_proj (Qwen3-Next)."""
    own_kv: bool = True
    """Off where keys and values of an earlier layer are read (Gemma-3n)."""
    values: bool = True
    """Off where keys serve as values before their norms (Gemma-4)."""
    fused: str = ""
    """Name of the one matrix that makes queries, keys and values."""
    out: str = "o_proj"
    norm_names: tuple[str, str] = ("q_norm", "k_norm")
    root: str = "self_attn"


def attention(shape: Attention) -> Tensors:
    """Projections of queries, keys, values and output, and the norms of queries and keys."""
    v_width = shape.v_width or shape.width
    rows = {
        "q_proj": shape.heads * shape.width * (2 if shape.gated else 1),
        "k_proj": shape.kv * shape.width if shape.own_kv else 0,
        "v_proj": shape.kv * v_width if shape.own_kv and shape.values else 0,
    }
    if shape.fused:
        rows = {shape.fused: sum(rows.values())}
    made = [
        linear("attention", f"{shape.root}.{name}", count, shape.hidden, bias=shape.bias)
        for name, count in rows.items()
        if count
    ]
    into = shape.heads * v_width
    made.append(
        linear("attention", f"{shape.root}.{shape.out}", shape.hidden, into, bias=shape.out_bias)
    )
    return (*(tensor for group in made for tensor in group), *_qk_norms(shape))


def _qk_norms(shape: Attention) -> Tensors:
    if not shape.norm:
        return ()
    counts = (shape.heads, shape.kv) if shape.norm != "head" else (1, 1)
    return tuple(
        tensor
        for name, heads in zip(shape.norm_names, counts, strict=True)
        if shape.own_kv or name == shape.norm_names[0]
        for tensor in norm(f"{shape.root}.{name}", heads * shape.width, bias=shape.norm_bias)
    )


def gated_mlp(
    hidden: int,
    width: int,
    *,
    bias: bool = False,
    part: str = "dense_mlp",
    root: str = "mlp",
    names: tuple[str, ...] = ("gate_proj", "up_proj", "down_proj"),
) -> Tensors:
    """Gate, up and down; two names where gate and up are one matrix."""
    *first, last = names
    rows = width if len(first) == len(("gate", "up")) else 2 * width
    made = [linear(part, f"{root}.{name}", rows, hidden, bias=bias) for name in first]
    made.append(linear(part, f"{root}.{last}", hidden, width, bias=bias))
    return tuple(tensor for group in made for tensor in group)


def plain_mlp(
    hidden: int,
    width: int,
    *,
    bias: bool = False,
    part: str = "dense_mlp",
    root: str = "mlp",
    names: tuple[str, str] = ("up_proj", "down_proj"),
) -> Tensors:
    """Up and down with an activation between them."""
    up, down = names
    return (
        *linear(part, f"{root}.{up}", width, hidden, bias=bias),
        *linear(part, f"{root}.{down}", hidden, width, bias=bias),
    )


@dataclass(frozen=True, kw_only=True)
class Experts:
    """Routed experts of one layer, the router, and experts that every token goes through."""

    hidden: int
    width: int
    count: int
    used: int
    gated: bool = True
    bias: bool = False
    router_bias: bool = False
    correction: Kind | None = None
    """The bias that balances the load: a buffer of fp32 (DeepSeek), a parameter, or none."""
    shared_width: int = 0
    shared_gate: bool = False
    root: str = "mlp"
    router: str = "gate"
    shared: str = "mlp.shared_experts"
    experts: str = "experts"
    router_dtype: str | None = None
    expert_names: tuple[str, ...] = ("gate_proj", "up_proj", "down_proj")


def experts(shape: Experts) -> Tensors:
    """Everything of a mixture-of-experts layer; no quantiser touches the router."""
    root = f"{shape.root}.{shape.router}"
    made = [*vector("router", root, shape.count, shape.hidden, dtype=shape.router_dtype)]
    if shape.router_bias:
        made += vector("router", f"{root}.bias", shape.count)
    if shape.correction is not None:
        name = f"{root}.e_score_correction_bias"
        dtype = "fp32" if shape.correction == "buffer" else None
        made.append(Tensor("router", name, (shape.count,), shape.correction, dtype=dtype))
    return (*made, *routed(shape, shape.hidden), *_shared(shape))


def routed(shape: Experts, hidden: int) -> Tensors:
    """The routed experts alone, on vectors of this width."""
    root = f"{shape.root}.{shape.experts}.*"
    options = {"bias": shape.bias, "part": "routed_experts", "root": root}
    one = (
        gated_mlp(hidden, shape.width, names=shape.expert_names, **options)  # type: ignore[arg-type]
        if shape.gated
        else plain_mlp(hidden, shape.width, **options)  # type: ignore[arg-type]
    )
    return tuple(replace(tensor, copies=shape.count, used=shape.used) for tensor in one)


def _shared(shape: Experts) -> Tensors:
    if not shape.shared_width:
        return ()
    block = gated_mlp if shape.gated else plain_mlp
    made = block(shape.hidden, shape.shared_width, part="shared_experts", root=shape.shared)
    if not shape.shared_gate:
        return made
    name = f"{shape.root}.shared_expert_gate"
    return (*made, *vector("shared_experts", name, 1, shape.hidden))
