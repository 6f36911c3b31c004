"""Whole numbers in, readable text out: the only place where "128k" and "GiB" exist."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from math import isqrt

from kvplan.errors import UsageError

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

# k and Ki are 1024 for contexts, as model names use them: "128k" is 131,072 tokens.
_TOKEN_SUFFIXES = {"": 1, "k": KIB, "ki": KIB, "m": MIB, "mi": MIB}
_TOKENS = re.compile(
    r"([0-9]{1,3}(?:[,_][0-9]{3})+|[0-9]+)(?:\.([0-9]{1,9}))?\s*(k|ki|m|mi|)", re.IGNORECASE
)
_MOST_TOKENS = 1 << 60


def parse_tokens(text: str) -> int:
    """Tokens meant by ``"131072"``, ``"131,072"``, ``"128k"``, ``"1.5Mi"``.

    Raises UsageError when the text is not a positive whole number of tokens.
    """
    hint = "write 131072, 128k or 1M"
    match = _TOKENS.fullmatch(text.strip()[:100])
    if match is None:
        raise UsageError(f"{text[:100]!r} is not a number of tokens", hint)
    whole, decimals, suffix = match.groups()
    digits = re.sub("[,_]", "", whole)
    tokens = Fraction(f"{digits}.{decimals or 0}") * _TOKEN_SUFFIXES[suffix.lower()]
    if tokens < 1 or tokens.denominator != 1:
        raise UsageError(f"{text!r} is not a whole number of tokens, one or more", hint)
    if tokens > _MOST_TOKENS:
        raise UsageError(f"{text!r} is more tokens than any memory holds", hint)
    return int(tokens)


_BYTE_SUFFIXES = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "k": KIB,
    "kib": KIB,
    "m": MIB,
    "mib": MIB,
    "g": GIB,
    "gib": GIB,
    "tib": GIB << 10,
}
_BYTES = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,9}))?\s*([kmgt]?i?b?)", re.IGNORECASE)


def parse_bytes(text: str) -> int:
    """Bytes meant by ``"3GiB"`` (2^30), ``"80GB"`` (10^9) or plain digits.

    Raises UsageError, for digits that mean less than a MiB as well: somebody left the unit out.
    """
    match = _BYTES.fullmatch(text.strip()[:100])
    if match is None or match.group(3).lower() not in _BYTE_SUFFIXES:
        raise UsageError(f"{text[:100]!r} is not a number of bytes", "write 3GiB, 80GB or digits")
    whole, decimals, suffix = match.groups()
    size_bytes = int(Fraction(f"{whole}.{decimals or 0}") * _BYTE_SUFFIXES[suffix.lower()])
    if not suffix and 0 < size_bytes < MIB:
        raise UsageError(f"{text!r} would be {size_bytes:,} bytes", f"write {text}GiB")
    return size_bytes


def positive(name: str, value: object) -> int:
    """The value where it is a whole number of one or more. Raises UsageError."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        hint = "kvplan.parse_tokens reads '128k'" if isinstance(value, str) else None
        raise UsageError(f"{name} has to be a whole number, one or more, not {value!r}", hint)
    return value


def parse_layers(name: str, value: str | Sequence[int]) -> tuple[int, ...]:
    """Numbers of layers meant by ``"33,28"`` or a list of them. Raises UsageError."""
    parts: Sequence[int | str] = value.split(",") if isinstance(value, str) else value
    texts = [str(part).strip() for part in parts if not isinstance(part, bool)]
    layers = tuple(int(text) for text in texts if re.fullmatch("[1-9][0-9]{0,5}", text))
    if not layers or len(layers) != len(parts):
        raise UsageError(
            f"{name} has to be a number of layers for each stage, not {_as_written(value)[:100]!r}",
            "write 33,28",
        )
    return layers


def _as_written(layers: str | Sequence[int]) -> str:
    return layers if isinstance(layers, str) else ",".join(map(str, layers))


def plural(count: int, noun: str) -> str:
    """So many of something, in words: ``1 sequence``, ``1,024 sequences``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def number(value: int | Fraction) -> str:
    """The value with thousands separators, exact to the last decimal it has.

    A fraction without a finite decimal form is shown to four places.
    """
    if isinstance(value, int) or value.denominator == 1:
        return f"{int(value):,}"
    return f"{float(value):,.4f}".rstrip("0")


def gib(size_bytes: int | Fraction) -> str:
    """Bytes as a person reads them: ``42.95 GiB``, ``3.2 MiB``, ``512 B`` (2^30, 2^20, 2^10)."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size_bytes >= unit:
            return f"{float(size_bytes / unit):,.2f} {name}"
    return f"{number(size_bytes)} B"


def ratio(value: float) -> str:
    """A quotient to three digits that count: ``4.66``, ``0.0141``, ``71``."""
    three_digits = f"{value:#.3g}".rstrip(".")
    return f"{value:,.0f}" if "." not in three_digits or "e" in three_digits else three_digits


def json_number(value: int | Fraction) -> int | float:
    """An int where the value is one, else the fraction as a float."""
    return int(value) if value == int(value) else float(value)


def largest(holds: Callable[[int], bool], most: int) -> int:
    """The largest number up to ``most`` that holds, where all smaller ones do too; 0 for none."""
    low, high = 0, most + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def ceil_div(dividend: int, divisor: int) -> int:
    """The quotient rounded up."""
    return -(-dividend // divisor)


def divisors(number: int) -> list[int]:
    """Every divisor, smallest first."""
    small = [size for size in range(1, isqrt(number) + 1) if number % size == 0]
    return sorted({*small, *(number // size for size in small)})
