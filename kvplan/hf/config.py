"""A config.json read strictly, with typed getters that say no instead of converting.

Every figure remembers the key that gave it, and every key that was looked at is remembered too:
what stays unread and sounds like a cache is a reason to refuse. A key that the file does not have
is the default of its class in transformers, and remembered as such; null is a value of its own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, Self, TypeVar

from kvplan.errors import RefusedError
from kvplan.hf.class_defaults import NO_CLASS, ClassDefaults
from kvplan.units import visible

MAX_LAYERS = 10_000
MAX_SIZE = 1_000_000
MAX_TOKENS = 1 << 40
SHOWN_CHARACTERS = 60
_MOST_CHARACTERS = 200  # of a name or a path

HINT = (
    "write what it caches as a YAML spec and give that file instead, for ordinary attention: "
    "name, source, native_context_tokens, dtype, and groups: "
    "[{layers: N, kind: full_attention, num_attention_heads: N, num_key_value_heads: N, "
    "head_dim: N}]"
)

OWN_SIZES = {
    *("hidden_size", "d_model", "n_embd", "n_embed"),
    *("num_hidden_layers", "num_layers", "n_layer", "n_layers", "decoder_layers", "encoder_layers"),
    *("num_attention_heads", "n_head", "n_heads"),
    *("decoder_attention_heads", "encoder_attention_heads", "vocab_size"),
    *("intermediate_size", "ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim", "ffn_hidden_size"),
    *("moe_intermediate_size", "expert_ffn_hidden_size"),
    *("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"),
}
"""Sizes that are a model's own: a class's default of one is the size of some other model."""

T = TypeVar("T")

Flag = bool | tuple[str, bool]
"""A constant, or a key and what code that is not in transformers takes where the file has none."""


class UncountedError(Exception):
    """Something that the weights need is not in the file; ``reason`` says what."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ContradictionError(Exception):
    """Figures that no model can have together; ``reason`` says which."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Figure(int):
    """A whole number and the key, or the working, that it came from."""

    origin: str

    def __new__(cls, value: int, origin: str) -> Self:
        figure = super().__new__(cls, value)
        figure.origin = origin
        return figure

    def __getnewargs__(self) -> tuple[int, str]:  # type: ignore[override]
        return int(self), self.origin


def origin(figure: int) -> str:
    """The key or working behind a figure; its digits where there is none."""
    return figure.origin if isinstance(figure, Figure) else str(figure)


class Word(str):
    """A text and the key that it came from."""

    __slots__ = ("origin",)
    origin: str

    def __new__(cls, value: str, origin: str) -> Self:
        word = super().__new__(cls, value)
        word.origin = origin
        return word

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]
        return str(self), self.origin


@dataclass
class Config:
    """One JSON object of a config.json: the file itself, or a section such as ``text_config``.

    ``defaults`` are those of its class. OWN_SIZES are taken from there in nested sections only,
    which transformers writes as their difference from the class: a file whose top level lacks one
    is mutilated.
    """

    raw: dict[str, Any]
    path: str
    architecture: str
    prefix: str = ""
    read: set[str] = field(default_factory=set)
    defaults: ClassDefaults = NO_CLASS
    taken: dict[str, tuple[Any, str]] = field(default_factory=dict)
    """Defaults that were taken for keys which the file does not have, and whose they are.

    One record for all sections, by the whole name of the key.
    """
    outer: Config | None = None
    """The object around this one."""

    def refuse(self, problem: str, hint: str = HINT) -> NoReturn:
        """Raises RefusedError naming the file and the architecture."""
        raise RefusedError(f"{self.path}: {self.architecture}: {problem}", hint)

    def name(self, key: str) -> str:
        """The key as a person finds it in the file, or the class whose default it is."""
        name = self.prefix + key
        return f"{name} of {self.taken[name][1]}" if name in self.taken else name

    def value(self, *keys: str) -> tuple[str, Any]:
        """The first of these keys that is set, and its value; ("", None) where none is.

        Keys that mean the same thing and differ are a contradiction. Where the file has none of
        them, not even null, the class's default is the value.
        """
        keys = tuple(name for key in keys for name in (key, *self.defaults.names.get(key, ())))
        self.read.update(keys)
        found = [(key, self.raw[key]) for key in keys if self.raw.get(key) is not None]
        if not found:
            return self._default(*keys)
        key, value = found[0]
        for other, another in found[1:]:
            if (type(another), another) != (type(value), value):
                self.refuse(
                    f"{self.name(key)} is {shown(value)}, but {self.name(other)}, which means "
                    f"the same, is {shown(another)}"
                )
        return key, value

    def spelling(self, key: str) -> str:
        """The name by which the file has the key: its own, or another that the class takes."""
        if key in self.raw:
            return key
        return next((name for name in self.defaults.names.get(key, ()) if name in self.raw), key)

    def _default(self, *keys: str) -> tuple[str, Any]:
        key = "" if self.mentions(*keys) else self.defaults.first(*keys)
        if not key or (self.outer is None and key in OWN_SIZES):
            return "", None
        if key in self.defaults.differs:
            self.refuse(f"{self.name(key)} is missing, and {self.defaults.differs[key]}")
        value = self.defaults.values[key]
        self.taken[self.prefix + key] = value, self.defaults.source
        return key, value

    def take(self, key: str, value: Any, source: str | None = None) -> None:
        """Records what the class makes of a key that the file does not have, not even null."""
        if not self.mentions(key):
            self.taken[self.prefix + key] = value, source or self.defaults.source

    def default(self, key: str) -> Any:
        """The class's default of a key that the file does not have, recorded as taken."""
        return self._default(key)[1]

    def mentions(self, *keys: str) -> bool:
        """Whether the file has one of these keys, be it null."""
        return not self.raw.keys().isdisjoint(map(self.spelling, keys))

    def settles(self, *keys: str) -> bool:
        """Whether the file or the class says what one of these keys is, be it null."""
        names = {name for key in keys for name in (key, *self.defaults.names.get(key, ()))}
        return self.mentions(*keys) or not self.defaults.values.keys().isdisjoint(names)

    def has(self, key: str) -> bool:
        """Whether the file sets the key to anything but null."""
        return self.raw.get(self.spelling(key)) is not None

    def expect(self, key: str, value: Any, kind: type[T], wanted: str) -> T:
        """The value where it is of this very type; true and false are not numbers."""
        if type(value) is not kind:
            self.refuse(f"{self.name(key)} has to be {wanted}, not {shown(value)}")
        return value

    def within(self, key: str, value: Any, least: int, most: int) -> Figure:
        """A whole number of a possible size."""
        number = self.expect(key, value, int, "a whole number")
        if not least <= number <= most:
            self.refuse(f"{self.name(key)} is {shown(number)}; it has to be {least} to {most}")
        return Figure(number, self.name(key))

    def maybe(self, *keys: str, least: int = 1, most: int = MAX_SIZE) -> Figure | None:
        """A whole number, or None where no key is set and the class has no default."""
        figure = self._number(*keys, least=least, most=most)
        lost = not self.mentions(*keys) and self.defaults.first(*keys) in OWN_SIZES
        if figure is None and lost:
            self.missing(*keys)
        return figure

    def _number(self, *keys: str, least: int, most: int) -> Figure | None:
        key, value = self.value(*keys)
        return self.within(key, value, least, most) if key else None

    def count(self, *keys: str, least: int = 1, most: int = MAX_SIZE) -> Figure:
        """A whole number that has to be there."""
        figure = self._number(*keys, least=least, most=most)
        return self.missing(*keys) if figure is None else figure

    def missing(self, *keys: str) -> NoReturn:
        """Refuses for want of all of these keys."""
        self.refuse(
            f"looked for {', '.join(map(self.name, keys))}, and found none of it"
            if len(keys) > 1
            else f"{self.name(keys[0])} is missing"
        )

    def uncounted(self, *keys: str) -> NoReturn:
        """Raises UncountedError: the weights need one of these keys, and none is in the file."""
        names = ", ".join(map(self.name, keys))
        raise UncountedError(f"{names} {'is' if len(keys) == 1 else 'are'} not in the file")

    def size(self, *keys: str, least: int = 1) -> Figure:
        """A whole number that only the weights need. Raises UncountedError where it is missing."""
        figure = self._number(*keys, least=least, most=MAX_SIZE)
        return self.uncounted(*keys) if figure is None else figure

    def same_size(self, layers: int, *keys: str, least: int = 1) -> Figure:
        """As ``size``, of a number or of a list that holds the same one for every layer."""
        key = next((self.spelling(key) for key in keys if self.has(key)), None)
        if key is None or not isinstance(self.raw[key], list):
            return self.size(*keys, least=least)
        values = self.per_layer(key, self.numbers(key), layers) or ()
        if len(set(values)) != 1:
            raise UncountedError(f"{self.name(key)} differs from layer to layer")
        return self.within(key, values[0], least, MAX_SIZE)

    def on(self, flag: Flag) -> bool:
        """A constant, or the file's flag with the class's default."""
        return flag if isinstance(flag, bool) else self.flag(flag[0], default=flag[1])

    def uncounted_if(self, *keys: str) -> None:
        """Raises UncountedError where one of these flags is on."""
        for key in keys:
            if self.flag(key):
                raise UncountedError(f"{self.name(key)} is on, and what that adds is not counted")

    def flag(self, key: str, default: bool | None = False) -> bool:
        """True or false; ``default`` None where the key has to be there.

        Null is false, as Python takes it; where the default is true that is no answer.
        """
        if (found := self.value(key))[0]:
            return self.expect(*found, bool, "true or false")
        if default is None and not self.mentions(key):
            self.missing(key)
        if self.mentions(key) and (default or self.defaults.values.get(key)):
            self.refuse(f"{self.name(key)} is null; it has to be true or false")
        if default or not self.defaults.values:
            self.take(key, bool(default))
        return bool(default)

    def word(self, *keys: str) -> Word | None:
        """A text, or None."""
        key, value = self.value(*keys)
        return Word(self.expect(key, value, str, "text"), self.name(key)) if key else None

    def items(self, key: str, kind: type[T], wanted: str, most: int = MAX_LAYERS) -> list[T] | None:
        """A list of this type throughout, or None."""
        key, value = self.value(key)
        if not key:
            return None
        entries: list[T] = self.expect(key, value, list, f"a list of {wanted}")
        if len(entries) > most:
            self.refuse(f"{self.name(key)} has {len(entries):,} entries, more than {most:,}")
        for index, entry in enumerate(entries):
            if type(entry) is not kind:
                self.refuse(
                    f"{self.name(key)} has to be a list of {wanted}, but entry {index} is "
                    f"{shown(entry)}"
                )
        return entries

    def numbers(self, key: str) -> list[int] | None:
        """A list of whole numbers, or None."""
        return self.items(key, int, "whole numbers")

    def floats(self, key: str) -> list[float] | None:
        """A list of positive numbers with or without a fraction, or None."""
        _, value = self.value(key)
        if value is None:
            return None
        entries = self.expect(key, value, list, "a list of numbers")
        if any(type(entry) not in (int, float) or not 0 < entry <= MAX_SIZE for entry in entries):
            self.refuse(f"{self.name(key)} has to be a list of numbers, 0 to {MAX_SIZE}")
        return [float(entry) for entry in entries]

    def words(self, key: str) -> list[str] | None:
        """A list of texts, or None."""
        return self.items(key, str, "texts")

    def section(self, key: str) -> Config | None:
        """A nested object, or None."""
        key = self.spelling(key)
        self.read.add(key)
        if not self.has(key):
            return None
        raw = self.expect(key, self.raw[key], dict, "an object")
        return Config(
            raw,
            self.path,
            self.architecture,
            f"{self.name(key)}.",
            defaults=self.defaults.section(key, raw.get("model_type")),
            taken=self.taken,
            outer=self,
        )

    def per_layer(self, key: str, entries: Sequence[T] | None, layers: int) -> Sequence[T] | None:
        """The entries, one a layer; any other number of them is a contradiction."""
        if entries is not None and len(entries) != layers:
            self.refuse(f"{self.name(key)} has {len(entries):,} entries for {layers:,} layers")
        return entries

    def ignore(self, *keys: str) -> None:
        """Keys that this family knows and that change nothing in the cache."""
        self.read.update(keys, map(self.spelling, keys))

    def require(self, key: str, *allowed: object) -> None:
        """Refuses any value of ``key`` but null and these."""
        _, value = self.value(key)
        self.taken.pop(self.prefix + key, None)
        if value is not None and not any(type(value) is type(a) and value == a for a in allowed):
            self.refuse(
                f"{self.name(key)} is {shown(value)}, and what that does to the cache is not known"
            )


def shown(value: object) -> str:
    """A value of the file as a message shows it: short, and printable everywhere."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value):,}"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**20:
        return "a number of more than 20 digits"
    text = json.dumps(value) if isinstance(value, bool | None) else ascii(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:57]}..."


def printable(text: str) -> str:
    """The text as any terminal or YAML file can hold it, and not too long."""
    return visible(text)[:_MOST_CHARACTERS]
