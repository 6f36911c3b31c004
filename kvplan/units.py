"""Whole numbers in, readable text out: the only place where "128k" and "GiB" exist."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from fractions import Fraction
from math import isqrt
from typing import TypeVar

from kvplan.errors import UsageError

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

T = TypeVar("T")
N = TypeVar("N", int, Fraction)
_SHOWN = 60

MOST_COUNT = 10**18
"""Of elements, of sequences, of bytes that somebody gives."""
MOST_TOKENS = 1 << 60

# One spelling for every number that a person writes: ASCII digits without leading zeros, decimals
# after a point; no sign, underscore, comma, exponent or blank. int() and float() take all of these.
_NUMBER = re.compile(r"(0|[1-9][0-9]*)(\.[0-9]{1,18})?( ?[a-z]+)?", re.IGNORECASE | re.ASCII)
_MOST_DIGITS = 30

# k and Ki are 1024 for contexts, as model names use them: "128k" is 131,072 tokens.
_TOKEN_SUFFIXES = {"": 1, "k": KIB, "ki": KIB, "m": MIB, "mi": MIB}
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
_MOST_BARE_BYTES = 1_000_000
"""Up to here, digits without a unit are a unit left out, not bytes."""


def parse_count(text: str) -> int:
    """The whole number, one or more, that these digits are. Raises UsageError."""
    whole, decimals, _ = _number(text, ("",), "a whole number", "write 8: digits alone")
    if decimals or whole == "0":
        raise UsageError(f"{_quoted(text)} is not a whole number, one or more")
    return _bounded(int(whole), MOST_COUNT, text, "more than kvplan counts")


def parse_decimal(text: str) -> float:
    """The number, zero or more, meant by ``"0.92"`` or ``"3"``. Raises UsageError."""
    whole, decimals, _ = _number(text, ("",), "a number", "write 0.92: digits and a point")
    return float(_bounded(Fraction(whole + decimals), MOST_COUNT, text, "more than kvplan counts"))


def parse_tokens(text: str) -> int:
    """Tokens meant by ``"131072"``, ``"128k"``, ``"1.5Mi"``.

    Raises UsageError when the text is not a positive whole number of tokens.
    """
    hint = "write 131072, 128k or 1M"
    whole, decimals, suffix = _number(text, _TOKEN_SUFFIXES, "a number of tokens", hint)
    tokens = Fraction(whole + decimals) * _TOKEN_SUFFIXES[suffix]
    if tokens < 1 or tokens.denominator != 1 or (decimals and not suffix):
        raise UsageError(f"{_quoted(text)} is not a whole number of tokens, one or more", hint)
    return int(_bounded(tokens, MOST_TOKENS, text, "more tokens than any memory holds"))


AUTO_CONTEXT = -1
"""As vLLM 0.33.0 has it (engine/arg_utils.py, human_readable_int_or_auto), beside ``auto``."""


def is_auto(text: str) -> bool:
    """Whether a context is to be the longest that fits: ``auto`` or ``-1``."""
    return text.lower() in ("auto", str(AUTO_CONTEXT))


def parse_context(text: str) -> int | None:
    """Tokens as ``parse_tokens`` reads them; None, to be found, for ``auto`` and ``-1``."""
    return None if is_auto(text) else parse_tokens(text)


def parse_bytes(text: str) -> int:
    """Bytes meant by ``"3GiB"`` (2^30), ``"80GB"`` (10^9), or by digits alone above a million.

    A fraction of a byte is dropped. Raises UsageError, for a few digits alone and for a fraction
    without a unit as well: somebody left the unit out.
    """
    hint = "write 3GiB, 80GB or digits"
    whole, decimals, suffix = _number(text, _BYTE_SUFFIXES, "a number of bytes", hint)
    size = Fraction(whole + decimals)
    if not suffix and text != "0" and (decimals or size <= _MOST_BARE_BYTES):
        again = f"write {text}{'GiB' if size < KIB else 'MiB'}" if size else "write 0"
        raise UsageError(f"{_quoted(text)} would be {text} bytes", again)
    size *= _BYTE_SUFFIXES[suffix]
    if 0 < size < 1 or (suffix == "b" and size.denominator != 1):
        raise UsageError(f"{_quoted(text)} is not a whole number of bytes", hint)
    return int(_bounded(size, MOST_COUNT, text, "more bytes than any memory has"))


def parse_layers(text: str) -> tuple[int, ...]:
    """Layers of each pipeline stage meant by ``"33,28"``. Raises UsageError."""
    try:
        return tuple(parse_count(stage.strip(" ")) for stage in text.split(","))
    except UsageError:
        problem = f"has to be a number of layers for each stage, not {_quoted(text)}"
        raise UsageError(problem, "write 33,28") from None


def _number(text: str, suffixes: Collection[str], what: str, hint: str) -> tuple[str, str, str]:
    """The digits, the decimals with their point, and the suffix. Raises UsageError."""
    parts = _parts(text, suffixes)
    if parts is None:
        respelt = _respelt(text)
        again = f"write {respelt}" if _parts(respelt, suffixes) else hint
        if re.match("0[0-9]", respelt):
            again = "leave the leading zero out"
        raise UsageError(f"{_quoted(text)} is not {what}", again)
    if len(parts[0]) > _MOST_DIGITS:
        raise UsageError(f"{_quoted(text)} has too many digits to be {what}", hint)
    return parts


def _parts(text: str, suffixes: Collection[str]) -> tuple[str, str, str] | None:
    match = _NUMBER.fullmatch(text)
    whole, decimals, suffix = match.groups(default="") if match else ("", "", "")
    suffix = suffix.strip().lower()
    return (whole, decimals, suffix) if whole and suffix in suffixes else None


def _respelt(text: str) -> str:
    """The text in the one spelling, where that is plain: ``1_000``, ``+8``, ``131,072``."""
    ascii_digits = re.sub(r"\d", lambda digit: str(int(digit[0])), text[:_MOST_DIGITS])
    bare = ascii_digits.strip().removeprefix("+")
    return re.sub(r"(?<=\d)(_|,(?=\d{3}(?!\d)))(?=\d)", "", bare)


def _bounded(value: N, most: int, text: str, what: str) -> N:
    if value > most:
        raise UsageError(f"{_quoted(text)} is {what}")
    return value


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


def named(name: str, read: Callable[[str], T]) -> Callable[[str], T]:
    """``read`` with errors that say in one sentence of what: ``--ctx: '1_0' is not ...``."""

    def read_named(text: str) -> T:
        try:
            return read(text)
        except UsageError as error:
            hint = f"; {error.hint}" if error.hint else ""
            own = name.partition("/")[0].lstrip("-").replace("-", "_")
            text = error.message.removeprefix(f"{own}: ")
            if text.startswith(f"{own} "):
                raise UsageError(f"{name}{text.removeprefix(own)}{hint}") from None
            raise UsageError(f"{name}: {text}{hint}") from None

    return read_named


def positive(name: str, value: object) -> int:
    """The value where it is a whole number of one or more. Raises UsageError."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        hint = "kvplan.parse_tokens reads '128k'" if isinstance(value, str) else None
        raise UsageError(f"{name} has to be a whole number, one or more, not {value!r}", hint)
    return value


def plural(count: int, noun: str) -> str:
    """So many of something, in words: ``1 sequence``, ``1,024 sequences``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def number(value: float | Fraction) -> str:
    """The value with thousands separators, exact to the last decimal it has.

    A fraction without a finite decimal form is shown to four places.
    """
    if value == int(value):
        return f"{int(value):,}"
    return f"{float(value):,.4f}".rstrip("0").rstrip(".")


def gib(size_bytes: float | Fraction) -> str:
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


def visible(text: str) -> str:
    """The text on one line, with every unprintable character written as its escape."""
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
