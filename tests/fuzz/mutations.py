"""Changes to plain data and to text that nobody would make on purpose, or only on purpose."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

Place = tuple[Any, ...]
"""Keys and indices from the root to a value."""

NUMBERS: tuple[Any, ...] = (
    *(0, 1, -1, 2, 3, 7, 8, 255, 4096, 10**6, 10**6 + 1, 10**9, 2**31, 2**53 + 1, 2**63, 10**18),
    *(10**19, 10**30, 10**400, -(10**400), 10**4290),
    *(0.0, -0.0, 0.5, 1.0, 1.5, 8.0, 1e-300, 1e18, 1e308, -1e308),
    *(float("inf"), float("-inf"), float("nan")),
)
TEXTS: tuple[str, ...] = (
    *("", " ", "0", "8", "128k", "1e6", "010", "1_000", "0x10", "+8", "-1", "null", "true", "auto"),
    *("full_attention", "sliding_attention", "mamba2", "bf16", "fp8", "llama3-8b", "h100", "24GiB"),
    *("x" * 300, "x" * 5_000, "9" * 400, "9" * 5_000, "\u0663\u0662", "\uff11\uff12\uff18k"),
    *("\x1b[31mred\x1b[0m", "\x9b31m", "a\x00b", "a\rb", "a\tb", "line\nbreak", "\u202egnol"),
    *("\u2028", "\u200b", "\ufeff", "\ud800", "e\u0301\u0301\u0301", "\U0001f9a5"),
    *("=1+1", "@SUM(A1)", "<b>&amp;", "|a|b|", "`code`", "[link](http://example.com)", "%0A", "%s"),
    *(
        "::error::x",
        "\n::error::x",
        "../x",
        "./",
        ".",
        "x.yaml",
        "config.json",
        "((a+)+)+$",
        "re:[",
    ),
)
OTHERS: tuple[Any, ...] = (None, True, False, [], {}, [None], [[]], [8], ["x"], {"a": 1}, [1, "x"])
_LONG, _DEEP = 3_000, (2, 39, 41, 90)
_LISTED = ("types", "type_list", "pattern", "layers", "per_tok", "groups", "heads", "windows")
"""Endings of keys whose values go by layer: changed more often than the rest."""


def hostile(draw: Random) -> Any:
    """A value that does not belong."""
    return copy.deepcopy(draw.choice(draw.choice((NUMBERS, TEXTS, OTHERS))))


def places(data: Any, depth: int = 30) -> Iterator[Place]:
    """Every place below the root, the outer before the inner; of long lists the first entries."""
    items: Any = ()
    if isinstance(data, dict):
        items = data.items()
    elif isinstance(data, list):
        items = enumerate(data[:200])
    for key, value in items:
        yield (key,)
        if depth:
            yield from ((key, *inner) for inner in places(value, depth - 1))


def mutate(draw: Random, data: Any, donors: Callable[[], Any]) -> Any:
    """The data with one to three changes; ``donors`` gives other data of the kind to take from."""
    data = copy.deepcopy(data)
    for _ in range(draw.choice((1, 1, 1, 1, 2, 2, 3))):
        known = list(places(data))
        listed = [place for place in known if str(place[-1]).endswith(_LISTED)]
        if not known:
            break
        place = draw.choice(listed if listed and draw.random() < 0.25 else known)
        draw.choice(_CHANGES)(draw, data, place, donors)
    return data


def _at(data: Any, place: Place) -> Any:
    for step in place:
        data = data[step]
    return data


def _set(data: Any, place: Place, value: Any) -> None:
    _at(data, place[:-1])[place[-1]] = value


def _replace(draw: Random, data: Any, place: Place, _: object) -> None:
    _set(data, place, hostile(draw))


def _delete(_: Random, data: Any, place: Place, __: object) -> None:
    del _at(data, place[:-1])[place[-1]]


def _retype(draw: Random, data: Any, place: Place, _: object) -> None:
    """The same in another type: 8 as 8.0, "8", [8], {"value": 8}, true."""
    value = _at(data, place)
    forms: list[Any] = [[value], {"value": value}, json.dumps(value), bool(value), [value, value]]
    if isinstance(value, int | float) and abs(value) < 10**300:
        forms += [float(value), str(value), f"{value}k", f" {value}", -value]
    _set(data, place, draw.choice(forms))


def _another(draw: Random, data: Any, place: Place, _: object) -> None:
    """Another number that could well stand there, a flag the other way round."""
    value = _at(data, place)
    if isinstance(value, bool):
        _set(data, place, not value)
    elif isinstance(value, int):
        near = (1, 2, 3, 16, 64, 100, 4096, value + 1, value * 2, value // 2, value * 1_000)
        _set(data, place, draw.choice(near))
    elif isinstance(value, list) and value:
        _set(data, place, [draw.choice(value) for _ in value])
    else:
        _set(data, place, draw.choice((None, *TEXTS)))


def _scale(draw: Random, data: Any, place: Place, _: object) -> None:
    value = _at(data, place)
    if isinstance(value, int) and not isinstance(value, bool):
        factor = draw.choice((0, 2, 3, 10, 1_000, 10**6, 10**12, 10**300))
        _set(data, place, value * factor + draw.choice((0, 0, 1, -1)))
    elif isinstance(value, list):
        times = draw.choice((0, 2, 3, 50, _LONG))
        _set(data, place, (value * times)[: draw.choice((_LONG, 10_001, 60_000))])
    elif isinstance(value, str):
        _set(data, place, value * draw.choice((0, 2, 100)))


def _shorten(draw: Random, data: Any, place: Place, _: object) -> None:
    """A list by an entry more or less, in another order, or with a hostile entry."""
    value = _at(data, place)
    if not isinstance(value, list) or not value:
        _set(data, place, hostile(draw))
        return
    index = draw.randrange(len(value))
    changed = [value[:index], value[1:], [*value, value[-1]], [*value, hostile(draw)], value[::-1]]
    changed.append([*value[:index], hostile(draw), *value[index + 1 :]])
    _set(data, place, draw.choice(changed))


def _swap(draw: Random, data: Any, place: Place, _: object) -> None:
    _set(data, place, copy.deepcopy(_at(data, draw.choice(list(places(data))))))


def _rename(draw: Random, data: Any, place: Place, _: object) -> None:
    owner, key = _at(data, place[:-1]), place[-1]
    if isinstance(owner, dict):
        text = str(draw.choice(TEXTS))
        new = draw.choice((f"{key}s", str(key)[:-1], str(key).upper(), f"num_{key}", text))
        owner[new] = owner.pop(key)


def _graft(draw: Random, data: Any, place: Place, donors: Callable[[], Any]) -> None:
    """A key of another document, here or at the root."""
    donor = donors()
    known = [found for found in places(donor) if isinstance(found[-1], str)]
    if not known:
        return
    taken = draw.choice(known)
    owner = draw.choice((data, _at(data, place[:-1])))
    if isinstance(owner, dict):
        owner[taken[-1]] = copy.deepcopy(_at(donor, taken))


def _nest(draw: Random, data: Any, place: Place, _: object) -> None:
    value = _at(data, place)
    for _ in range(draw.choice(_DEEP)):
        value = [value] if draw.random() < 0.5 else {"a": value}
    _set(data, place, value)


_CHANGES = (
    *(_replace, _replace, _another, _another, _another, _another, _delete, _delete, _delete),
    *(_retype, _retype, _scale, _scale, _shorten, _shorten, _swap, _rename, _graft, _nest),
)


def mutate_text(draw: Random, text: str) -> bytes:
    """The text as bytes, now and then with something in it that no writer of data would write."""
    if draw.random() < 0.92:
        return _encoded(text)
    lines = text.split("\n")
    index = draw.randrange(len(lines))
    line = lines[index]
    brackets = draw.choice((39, 41, 2_000, 100_000))
    changed: tuple[list[str], ...] = (
        [text[: draw.randrange(len(text) + 1)]],
        [*lines[:index], *lines[index + 1 :]],
        [*lines[:index], line, *lines[index:]],  # a key twice
        [*lines[:index], line.replace(": ", ": &a ", 1), *lines[index + 1 :], "more: *a"],
        [*lines[:index], line.replace(": ", ": !!python/object:os.system ", 1), *lines[index:]],
        [*lines, "---", *lines],
        [*lines[:index], "\t" + line, *lines[index:]],
        [*lines[:index], draw.choice("[{") * brackets, *lines[index:]],
        ["a: &a [x,x,x,x,x,x,x,x,x]", *(f"a{n}: &a{n} [*a,*a]" for n in range(9)), *lines],
        [*lines[:index], line + str(draw.choice(TEXTS)), *lines[index + 1 :]],
        [line] * draw.choice((2, 100, 20_000)),
        [text, "x" * draw.choice((10, 1 << 20, 17 << 20))],
        [],
    )
    spoilt = _encoded("\n".join(draw.choice(changed)))
    if draw.random() < 0.2 and spoilt:
        place = draw.randrange(len(spoilt))
        spoilt = spoilt[:place] + draw.choice((b"\xff", b"\x00", b"\xef\xbb\xbf")) + spoilt[place:]
    return spoilt


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
