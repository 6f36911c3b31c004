"""Names as people write them, held against those that the catalogue lists; text alone, no files.

Loaded for a text that is none of these names as they stand.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from kvplan.registry.paths import HUBS

_HUB = re.compile(r"(?i)^(https?://)?(www\.)?(huggingface\.co|hf\.co)/")
_HUB_PAGE = re.compile(r"/(tree|blob|resolve)/main(/(config\.json)?)?$|/$|@main$")

# Makers under the names that other catalogues of models (NIM, OpenRouter, older ids) know them by.
_ORGANISATIONS = {
    "meta": "meta-llama",
    "deepseek": "deepseek-ai",
    "z-ai": "zai-org",
    "thudm": "zai-org",
    "x-ai": "xai-org",
    "mistral": "mistralai",
    "cohere": "coherelabs",
    "cohereforai": "coherelabs",
    "ibm": "ibm-granite",
    "minimax": "minimaxai",
}
# What a derivative with weights of another size has in its name.
_QUANTISED = re.compile(
    r"[-_.](fp8|fp4|nvfp4|mxfp4|mxfp8|int4|int8|[2348]bit|awq|gptq|gguf|bnb|mlx|exl[23]|autoround|"
    r"quantized|w[48]a(8|16)|q[2-8](_[0-9k](_[sml])?)?|dynamic|static)(?![a-z0-9]).*",
    re.IGNORECASE,
)
_OMITTED = re.compile(r"(?<=[0-9]b)a[0-9.]+b|hf$")
"""What may be left out: a mixture's active parameters, and that a file is in transformers' form."""
_LIKE = 0.75
_LONGEST_NAME = 100  # characters that are compared
_SHORTEST_FAMILY = 3  # letters: glm, gpt, phi
_MOST_SUGGESTED = 3


def repository(text: str) -> str:
    """``ORG/NAME`` of an address on the hub or of its main branch; any other text as it is."""
    if text.lower().startswith(HUBS) or text.endswith("@main"):
        return _HUB_PAGE.sub("", _HUB.sub("", text))
    return text


def as_published(text: str) -> str | None:
    """The name without what says that its weights are quantised; None where nothing does."""
    shorter = _QUANTISED.sub("", text)
    return None if shorter == text else shorter


def _spelled(name: str) -> str:
    """Lower case, no separators but between two digits, where they are ``-`` or a point."""
    dashed = re.sub(r"[ _-]+", "-", name.lower().strip())
    return re.sub(r"(?<![0-9])-|-(?![0-9])", "", dashed)


def has_words(search: str | None, names: Iterable[str]) -> bool:
    """Whether one of the names has every word of the search; separators and case do not count.

    An empty search finds everything.
    """
    parts = [_bare(part) for part in (search or "").split()]
    return any(all(part in _bare(name) for part in parts) for name in names)


def _bare(text: str) -> str:
    return re.sub(r"[\s_-]", "", text.lower())


def _words(name: str) -> list[str]:
    return re.findall(r"[a-z]+|[0-9]+(?:\.[0-9]+)*", name.lower())


def _organisation(text: str) -> tuple[str, str]:
    """``ORG`` (the maker's own, in lower case) and ``NAME``; no organisation is empty."""
    organisation, _, name = text.rpartition("/")
    lower = organisation.lower()
    return _ORGANISATIONS.get(lower, lower), name


@dataclass(frozen=True)
class Known:
    """The models of a catalogue with their aliases, Hugging Face ids among them."""

    aliases: dict[str, tuple[str, ...]]

    @cached_property
    def by_alias(self) -> dict[str, str]:
        """Model by each of its names, in lower case."""
        return {text.lower(): model for model, text in self._listed()}

    def _listed(self) -> Iterator[tuple[str, str]]:
        for model, aliases in self.aliases.items():
            yield model, model
            yield from ((model, alias) for alias in aliases)

    @cached_property
    def _by_spelling(self) -> dict[str, set[tuple[str, str]]]:
        """(model, spelling) by the spelling with dashes for points.

        ``_OMITTED`` may be left out where no other model is called so.
        """
        index: dict[str, set[tuple[str, str]]] = {}
        shorter: list[tuple[str, str]] = []
        for model, text in self._listed():
            spelling = _spelled(_organisation(text)[1])
            index.setdefault(spelling.replace(".", "-"), set()).add((model, spelling))
            shorter.append((model, _OMITTED.sub("", spelling)))
        own = set(index)
        for model, spelling in shorter:
            if spelling.replace(".", "-") not in own:
                index.setdefault(spelling.replace(".", "-"), set()).add((model, spelling))
        return index

    @cached_property
    def _organisations(self) -> dict[str, set[str]]:
        """The organisations of each model's ids."""
        return {
            model: {_organisation(alias)[0] for alias in aliases if "/" in alias}
            for model, aliases in self.aliases.items()
        }

    def spelt_like(self, text: str) -> list[str]:
        """Models that this text can only mean, were case and separators written otherwise.

        ``-`` or ``_`` between digits may be a point; a point is one. An organisation has to be
        that of one of the model's ids: others publish models of the same name that differ.
        """
        organisation, name = _organisation(text)
        spelling = _spelled(name)
        near = self._by_spelling.get(spelling.replace(".", "-"), set())
        same = {
            model
            for model, known in near
            if all(mine in ("-", its) for mine, its in zip(spelling, known, strict=True))
        }
        return sorted(
            model
            for model in same
            if not organisation or organisation in self._organisations[model]
        )

    def beginning_with(self, text: str) -> list[str]:
        """Models whose name begins with the words of this text, without variants of one another."""
        words = _words(_organisation(text)[1])
        names = [model for model in self.aliases if words and _begins(_words(model), words)]
        return [
            name
            for name in names
            if not any(name != other and name.startswith(f"{other}-") for other in names)
        ]

    def suggestions(self, wrong: str) -> list[str]:
        """Up to three models of a like family with the same numbers in their name; none in doubt.

        A family is the letters that a name begins with. Numbers count more than letters: 70 is
        nearer to ``llama3-70b`` than any other spelling.
        """
        text = wrong[:_LONGEST_NAME]
        name = _organisation(text)[1]
        words = _words(as_published(name) or name)
        family = words[0] if words and words[0].isalpha() else ""
        ranked = []
        for model, listed in self._listed():
            known = _words(_organisation(listed)[1])
            if family and _alike(family, known[0]):
                missing, exact = _numbers_missing(words, known)
                ranked.append((missing, -exact, -_ratio(text, listed), model))
        numbers = [word for word in words if not word.isalpha()]
        near = [entry for entry in sorted(ranked) if not numbers or entry[0] < len(numbers)]
        return list(dict.fromkeys(entry[-1] for entry in near))[:_MOST_SUGGESTED]


def _begins(words: list[str], start: list[str]) -> bool:
    return words[: len(start)] == start


def _alike(family: str, other: str) -> bool:
    shorter, longer = sorted((family, other), key=len)
    if len(shorter) < _SHORTEST_FAMILY:
        return False
    return longer.startswith(shorter) or _ratio(family, other) >= _LIKE


def _ratio(one: str, other: str) -> float:
    from difflib import SequenceMatcher  # only a wrong name has to wait for it

    return SequenceMatcher(None, one.lower(), other.lower()).ratio()


def _numbers_missing(words: list[str], known: list[str]) -> tuple[int, int]:
    """How many numbers of a text a name has nothing like, and how many it has exactly."""
    numbers = [word for word in words if not word.isalpha()]
    others = [word for word in known if not word.isalpha()]
    exact = sum(number in others for number in numbers)
    like = sum(
        any(number.startswith(o) or o.startswith(number) for o in others) for number in numbers
    )
    return len(numbers) - like, exact


_GPU_NOISE = frozenset(
    {
        *("nvidia", "amd", "intel", "huawei", "apple", "google", "geforce", "tesla", "instinct"),
        *("radeon", "rtx", "gtx", "rx", "gpu", "oam", "ac", "generation", "edition", "graphics"),
        *("r", "tm"),
    }
)
_SIZE = re.compile(r"(?<![a-z0-9.])([0-9]+)[\s-]*g(i?b)?(?![a-z0-9.])")
_GPU_BREAKS = (
    re.compile(r"\b(rtx|gtx|rx|pro)(?=[a-z]?[0-9]|pro)"),
    re.compile(r"(?<=[0-9]{4})(?=(?:ti|super|xtx|xt|ada|d)(?![a-z0-9])|tisuper)"),
    re.compile(r"(?<=[0-9] ti)(?=super)|(?<=[0-9]ti)(?=super)"),
    re.compile(r"(?<=[a-z][0-9]{3})(?=(?:sxm[0-9]?|pcie|nvl)(?![a-z]))"),
)


def gpu_words(name: str) -> frozenset[str]:
    """What tells a card from others in its name, sizes as ``80gb``: no makers, no separators."""
    text = _SIZE.sub(r" \1gb ", name.lower())
    for place in _GPU_BREAKS:
        text = place.sub(lambda match: f"{match[0]} ", text)
    return frozenset(re.findall(r"[a-z0-9]+", text)) - _GPU_NOISE


@dataclass(frozen=True)
class Card:
    """The names of a GPU, its own before its aliases; two cards may share an alias."""

    names: tuple[str, ...]

    @cached_property
    def _in_words(self) -> tuple[frozenset[str], ...]:
        """Each of its names in words."""
        return tuple(map(gpu_words, self.names))

    @cached_property
    def vocabulary(self) -> frozenset[str]:
        """Every word of any of its names."""
        return frozenset().union(*self._in_words)

    def may_be(self, text: str) -> bool:
        """Whether the text is one of its names in words, with no more than others of its own."""
        words = gpu_words(text)
        return words <= self.vocabulary and any(name <= words for name in self._in_words)

    def is_like(self, words: frozenset[str]) -> bool:
        """Whether it has all the model numbers of these words, or a word that begins like one."""
        numbers = {word for word in words if re.search("[0-9]", word) and not _is_size(word)}
        if numbers:
            return all(any(_same_number(word, own) for own in self.vocabulary) for word in numbers)
        texts = {word for word in words if len(word) >= _SHORTEST_FAMILY and word.isalpha()}
        return any(own.startswith(word) for word in texts for own in self.vocabulary)


def _is_size(word: str) -> bool:
    return re.fullmatch("[0-9]+gb", word) is not None


def _same_number(word: str, own: str) -> bool:
    """``mi300`` and ``mi300x``, ``h100x`` and ``h100``, ``3090`` twice; never ``b30``, ``b300``."""
    if _is_size(own):
        return False
    match, other = (re.match("[a-z]*[0-9]+", each) for each in (word, own))
    return bool(match and other) and match[0] == other[0]  # type: ignore[index]


def nearest_cards(text: str, cards: Iterable[Card]) -> list[str]:
    """Up to three cards with the same model number, those that look most like the text first."""
    words = gpu_words(text[:_LONGEST_NAME])
    near = [card.names[0] for card in cards if card.is_like(words)]
    return sorted(near, key=lambda name: -_ratio(text[:_LONGEST_NAME], name))[:_MOST_SUGGESTED]
