"""What a value of the command line may be: each one passes through here, and none is nothing."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypeVar

import typer

from kvplan.errors import UsageError
from kvplan.units import AUTO_CONTEXT, named, parse_bytes, parse_context, parse_count, parse_tokens

WORKLOAD, GPU, LAYOUT, MEMORY, OUTPUT = "Workload", "GPU", "Layout", "Memory", "Output"
ENGINE, MEASUREMENT = "Engine", "Measurement"
NUMBERS = {"N", "TOKENS", "BYTES"}
SPELLING = (
    "Numbers are ASCII digits: 8, 0.92; no leading zeros, no signs, underscores or exponents. "
    "Tokens may end in k, Ki (1024), m or Mi (1024^2). Bytes have a unit, 3GiB (2^30) or 80GB "
    "(10^9), but for 0 and numbers above 1,000,000."
)

T = TypeVar("T")
Word = TypeVar("Word", bound=StrEnum)


def option(
    *flags: str,
    metavar: str,
    help_: str,
    read: Callable[[str], Any] = str,
    panel: str | None = None,
) -> Any:
    """An option with a value that ``read`` understands; a name or a file where it is not given."""
    reader = _reader("/".join(flags), read)
    return typer.Option(*flags, metavar=metavar, parser=reader, rich_help_panel=panel, help=help_)


def argument(metavar: str, help_: str, read: Callable[[str], Any] = str) -> Any:
    """An argument, as ``option`` is an option."""
    reader = _reader(metavar.strip("[].<>"), read)
    return typer.Argument(metavar=metavar, parser=reader, help=help_)


def _reader(name: str, read: Callable[[str], T]) -> Callable[[Any], Any]:
    reader = named(name, read)

    def read_given(value: Any) -> Any:
        if not isinstance(value, str):
            return value  # a default
        answer = reader(value)
        if not value.strip():
            raise UsageError(f"{name} is empty; give it a value, or leave it out")
        return answer

    return read_given


def count(*flags: str, help_: str, panel: str) -> Any:
    """An option that takes a whole number, one or more."""
    return option(*flags, metavar="N", help_=help_, read=parse_count, panel=panel)


def tokens(*flags: str, help_: str, panel: str) -> Any:
    """An option that takes a context."""
    return option(*flags, metavar="TOKENS", help_=help_, read=parse_tokens, panel=panel)


def context(*flags: str, help_: str, panel: str) -> Any:
    """An option that takes a context, or ``auto``, which is -1 where it has been read."""

    def read(text: str) -> int:
        return parse_context(text) or AUTO_CONTEXT

    return option(*flags, metavar="TOKENS", help_=help_, read=read, panel=panel)


def size(*flags: str, help_: str, panel: str) -> Any:
    """An option that takes bytes, with their unit."""
    return option(*flags, metavar="BYTES", help_=help_, read=parse_bytes, panel=panel)


def choice(
    *flags: str, metavar: str, among: type[StrEnum], help_: str, panel: str | None = None
) -> Any:
    """An option that takes one of a few words, which its help lists."""
    *words, last = among
    text = f"{help_}: {', '.join(words)} or {last}." if words else f"{help_}."
    return option(*flags, metavar=metavar, help_=text, read=one_of(among), panel=panel)


def one_of(words: type[Word]) -> Callable[[str], Word]:
    """Reads one of these words. What it returns raises UsageError for any other."""

    def read(text: str) -> Word:
        if text not in list(words):
            raise UsageError(f"{text[:60]!r} is not known", f"one of: {', '.join(words)}")
        return words(text)

    return read
