"""What stands at both ends of the layers: the embedding, the last norm and the head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvplan.hf.blocks.base import Block, Tensor, Tensors, linear, vector
from kvplan.hf.class_defaults import NO_CLASS
from kvplan.hf.config import Config, UncountedError, shown


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


_TIE = "tie_word_embeddings"


def tied(config: Config, default: bool | None, *others: str) -> bool:
    """Whether head and embedding are one. Raises UncountedError where releases disagree.

    ``default`` is what code that is not in transformers takes, None where the file has to say it.
    """
    outer, keys = config.outer, (_TIE, *others)
    own = _given(config, keys)
    if outer is None:
        return _default(config, default) if own is None else own
    above = _given(outer, keys)
    if above is None and own is None:
        return _default_of_levels(config, outer, default)
    if own is None or above is None:
        return _one_level(config, outer, own, above)
    if own != above and not outer.defaults.since_5:
        raise UncountedError(f"{_TIE} differs between the levels of the file")
    return above or (own and outer.defaults.nested_tie)


def _given(level: Config, keys: Sequence[str]) -> bool | None:
    level.ignore(*keys)
    named = [level.spelling(key) for key in keys if level.has(key)]
    values = [(key, level.raw[key]) for key in named]
    given = {level.expect(key, value, bool, "true or false") for key, value in values}
    if len(given) > 1:
        raise UncountedError(f"{' and '.join(keys)} contradict each other")
    if given or not level.mentions(*keys):
        return given.pop() if given else None
    if level.defaults.values.get(_TIE):
        raise UncountedError(f"{level.name(_TIE)} is null, where its class would tie")
    return False


def _one_level(config: Config, outer: Config, own: bool | None, above: bool | None) -> bool:
    """What one level of two says.

    transformers 5 asks the outer config, 4.45 to 4.57 the nested one. Some classes of 5 pass a
    nested true on; where one does not, and earlier releases had it, the two read the file apart.
    """
    classes = outer.defaults
    inner = config.defaults.values.get(_TIE) and _TIE not in config.defaults.differs
    if above is False and inner:
        raise UncountedError(
            f"{outer.name(_TIE)} is off, and the class of the text part turns it on"
        )
    if above is not None:
        return above
    if classes.name == NO_CLASS.name or (own and classes.nested_tie):
        return bool(own)
    taken = bool(outer.default(_TIE))
    if taken != own and not classes.since_5:
        raise UncountedError(
            f"{config.name(_TIE)} is {shown(own)}, which {classes.source} does not look at, "
            f"as it did before release 5: {str(taken).lower()} stands for the missing "
            f"{_TIE} of the whole"
        )
    return taken


def _default(config: Config, default: bool | None) -> bool:
    """What the class says where the file does not."""
    if default is None:
        config.uncounted(_TIE)
    if _TIE in config.defaults.differs:
        raise UncountedError(f"{_TIE} is not in the file, and {config.defaults.differs[_TIE]}")
    said = config.default(_TIE)
    if said is None and not config.defaults.values:
        config.take(_TIE, default)
    return default if said is None else bool(said)


def _default_of_levels(config: Config, outer: Config, default: bool | None) -> bool:
    """What the classes say where the file does not: the outer one's word, if new or agreed."""
    if outer.defaults.since_5:
        return bool(outer.default(_TIE))
    inner = _default(config, default)
    said = outer.default(_TIE)
    if said is not None and bool(said) != inner:
        names = f"{config.defaults.source} and {outer.defaults.source}"
        raise UncountedError(f"no {_TIE} in the file, and {names} disagree")
    return inner
