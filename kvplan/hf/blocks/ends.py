"""What stands at both ends of the layers: the embedding, the last norm and the head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvplan.hf.blocks.base import Block, Tensor, Tensors, linear, vector
from kvplan.hf.config import Config, UncountedError


@dataclass(frozen=True, kw_only=True)
class Embedding(Block):
    """The input embedding, or learned positions: (rows, width)."""

    rows: int
    width: int | None = None
    name: str = "model.embed_tokens"

    def weights(self, hidden: int) -> Tensors:
        yield Tensor("embedding", self.name, (self.rows, self.width or hidden))


@dataclass(frozen=True, kw_only=True)
class Head(Block):
    """The output head where it is not the embedding itself; ``bias`` it has tied as well."""

    rows: int
    width: int | None = None
    tied: bool = False
    bias: bool = False
    name: str = "lm_head"

    def weights(self, hidden: int) -> Tensors:
        if not self.tied:
            yield from linear("lm_head", self.name, self.rows, self.width or hidden)
        if self.bias:
            yield from vector("lm_head", f"{self.name}.bias", self.rows)


def tied(config: Config, default: bool | None, *others: str) -> bool:
    """Whether head and embedding are one. Raises UncountedError where levels disagree.

    transformers 5 asks the outer config, earlier releases the nested one. ``default`` is the
    text class's own, None where the file has to say it.
    """
    levels = [config] if config.outer is None else [config, config.outer]
    keys = ("tie_word_embeddings", *others)
    given = {
        level.expect(key, level.raw[key], bool, "true or false")
        for level in levels
        for key in keys
        if level.has(key)
    }
    for level in levels:
        level.ignore(*keys)
    if len(given) > 1:
        raise UncountedError("tie_word_embeddings differs between the levels of the file")
    if given:
        return given.pop()
    return _default(config, levels, default)


def _default(config: Config, levels: Sequence[Config], default: bool | None) -> bool:
    """What the classes say where the file does not. Raises UncountedError where they disagree."""
    key = "tie_word_embeddings"
    if default is None:
        config.uncounted(key)
    for level in levels:
        if key in level.defaults.differs:
            differs = level.defaults.differs[key]
            raise UncountedError(f"{level.name(key)} is not in the file, and {differs}")
    said = {level.default(key) for level in levels} - {None}
    if len(said) > 1:
        names = " and ".join(level.defaults.source for level in levels)
        raise UncountedError(f"no {key} in the file, and {names} disagree")
    return bool(said.pop()) if said else default
