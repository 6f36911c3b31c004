"""What a model is made of. A block answers twice: what it keeps (``caches``) and what it weighs.

Names are the checkpoint's own module names, because quantisation lists speak of these; ``*``
stands for the layer and, where there is a second one, for the expert. Shapes are (out, in).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import prod
from typing import Literal

from kvplan.hf.config import Config, UncountedError
from kvplan.stored import Part

Kind = Literal["linear", "other", "buffer"]
"""Linear layers may be quantised; a buffer is stored and is not a parameter."""

TOWERS: tuple[Part, ...] = ("vision", "audio")
"""Parts that quantisers leave alone unless a list says otherwise."""

UNSURE = "unsure"
"""Dtype of figures that some checkpoints store as fp32: no key says which."""

Cache = tuple[tuple[str, "int | str | bool"], ...]
"""One cache as a spec writes it, figures with their origins; hashable, so that layers compare."""


def cache(kind: str, **figures: int | str | bool | None) -> Cache:
    """A cache of this kind; None leaves a figure out."""
    return (("kind", kind), *((key, v) for key, v in figures.items() if v is not None))


@dataclass(frozen=True)
class Tensor:
    """Weights of one module, on each of its layers: ``shape`` is one matrix, (out, in).

    ``copies`` are the matrices of this shape in a layer (experts), ``used`` those that one token
    goes through. ``dtype`` is set where it is not the file's own, or UNSURE.
    """

    part: str
    name: str
    shape: tuple[int, ...]
    kind: Kind = "other"
    copies: int = 1
    used: int | None = None
    layers: tuple[int, ...] | None = None
    dtype: str | None = None

    @property
    def times(self) -> int:
        """Layers that have it."""
        return 1 if self.layers is None else len(self.layers)

    @property
    def elements(self) -> int:
        """Numbers that it holds in the whole model."""
        return prod(self.shape) * self.copies * self.times

    @property
    def active(self) -> int:
        """Parameters that one token uses."""
        used = self.copies if self.used is None else self.used
        return prod(self.shape) * used * self.times


Tensors = Iterator[Tensor]


def linear(part: str, name: str, out: int, into: int, *, bias: bool = False) -> Tensors:
    """A matrix of ``out`` rows and ``into`` columns, and its bias."""
    yield Tensor(part, name, (out, into), "linear")
    if bias:
        yield Tensor(part, f"{name}.bias", (out,))


def vector(part: str, name: str, *shape: int, dtype: str | None = None) -> Tensors:
    """Parameters that no quantiser touches."""
    yield Tensor(part, name, shape, dtype=dtype)


def buffer(part: str, name: str, *shape: int, dtype: str | None = "fp32") -> Tensors:
    """Stored in the checkpoint, and not a parameter."""
    yield Tensor(part, name, shape, "buffer", dtype=dtype)


def norm(name: str, width: int, *, bias: bool = False, part: str = "norm") -> Tensors:
    """A norm's weight, with a bias for LayerNorm."""
    yield from vector(part, name, width)
    if bias:
        yield from vector(part, f"{name}.bias", width)


@dataclass(frozen=True, kw_only=True)
class Block:
    """Part of a layer, or what stands once outside the layers."""

    def caches(self) -> tuple[Cache, ...]:
        """What it keeps of a sequence."""
        return ()

    def weights(self, hidden: int) -> Tensors:
        """What it weighs in a model of this hidden size. Raises UncountedError."""
        del hidden
        yield from ()


Layer = tuple[Block, ...]
"""The blocks of one layer in order."""


@dataclass(frozen=True, kw_only=True)
class Norms(Block):
    """Norms of the hidden size, or of a width of their own; a LayerNorm has a bias."""

    names: tuple[str, ...]
    width: int | None = None
    bias: bool = False

    def weights(self, hidden: int) -> Tensors:
        for name in self.names:
            yield from norm(name, self.width or hidden, bias=self.bias)


@dataclass(frozen=True, kw_only=True)
class Extra(Block):
    """Tensors that only one family has: an attention's sinks, a scale, a table."""

    tensors: tuple[Tensor, ...]

    def weights(self, hidden: int) -> Tensors:
        del hidden
        yield from self.tensors


def extra(*groups: Iterable[Tensor]) -> Extra:
    """What these give, as one block."""
    return Extra(tensors=tuple(chain.from_iterable(groups)))


@dataclass(frozen=True)
class Again(Block):
    """A block whose weights stand in an earlier layer, and that keeps a cache of its own."""

    block: Block

    def caches(self) -> tuple[Cache, ...]:
        return self.block.caches()


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Layers under one name, apart from the model's own: an encoder, a tower's mergers."""

    root: str
    layers: tuple[Layer, ...]
    part: str | None = None
    """The one part of the model that all of it is."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """Every layer by its blocks. What is kept is read at once, what only weighs when asked for.

    ``layers`` holds the blocks that keep something; ``others`` gives, one entry a layer, those
    that do not, and ``ends`` what stands outside the layers. ``hidden``, ``others`` and ``ends``
    raise UncountedError where the file lacks a figure: the caches are then known all the same.
    """

    layers: tuple[Layer, ...]
    layers_key: str
    """Where the number of layers comes from."""
    hidden: Callable[[], int]
    others: Callable[[], Sequence[Layer]]
    ends: Callable[[], Layer]
    root: str = "model.layers"
    stacks: Callable[[], tuple[Stack, ...]] = tuple
    draft: tuple[Layer, ...] = ()
    kv_cache_dtype: str | None = None
    """The family's own KV layout where neither user nor checkpoint names one."""
    active_varies: bool = False
    """Active parameters differ from token to token (LongCat-Flash's zero experts)."""
    assumptions: tuple[str, ...] = ()
    """What every answer has to say of this file."""

    def caches(self) -> tuple[tuple[Cache, ...], ...]:
        """What each layer keeps."""
        return tuple(map(kept, self.layers))

    def weights(self) -> tuple[Tensor, ...]:
        """Every tensor, equal ones of several layers together. Raises UncountedError."""
        others, hidden = self.others(), self.hidden()
        full = [(*layer, *rest) for layer, rest in zip(self.layers, others, strict=True)]
        main = Stack(root=self.root, layers=tuple(full))
        once = (tensor for block in self.ends() for tensor in block.weights(hidden))
        stacked = (t for stack in (main, *self.stacks()) for t in _of_stack(stack, hidden))
        return (*stacked, *once)


Reader = Callable[[Config], Model]
"""Takes the text part of a config.json. Raises RefusedError where a cache cannot be known."""


def kept(layer: Layer) -> tuple[Cache, ...]:
    """The caches of a layer: none for an MLP, two for Falcon-H1."""
    return tuple(cache for block in layer for cache in block.caches())


def _of_stack(stack: Stack, hidden: int) -> Tensors:
    known: dict[int, tuple[Tensor, ...]] = {}
    places: dict[Tensor, list[int]] = {}
    for index, layer in enumerate(stack.layers):
        for block in layer:
            if id(block) not in known:
                known[id(block)] = tuple(block.weights(hidden))
            for tensor in known[id(block)]:
                places.setdefault(tensor, []).append(index)
    for tensor, layers in places.items():
        part, name = stack.part or tensor.part, f"{stack.root}.*.{tensor.name}"
        yield replace(tensor, part=part, name=name, layers=tuple(layers))


def uncounted_layers(reason: str) -> Callable[[], Sequence[Layer]]:
    """``others`` of a model whose caches alone are known."""

    def others() -> Sequence[Layer]:
        raise UncountedError(reason)

    return others
