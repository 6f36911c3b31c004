"""Bounds of a spec's figures, which pydantic checks when a file is read.

They are plain objects with pydantic's hook, so that the rooms below can name them without
importing pydantic: the catalogue is validated by the tests, and read without it.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Annotated, Any, ClassVar, TypeVar

from kvplan.errors import UsageError
from kvplan.units import (
    AUTO_CONTEXT,
    MOST_COUNT,
    MOST_TOKENS,
    number,
    parse_bytes,
    parse_context,
    parse_tokens,
    positive,
)

# No model and no load comes near these: they keep a mistyped figure from asking for 10^18 heads,
# and every product of them within what a float can hold. MOST_COUNT and MOST_TOKENS are units'.
MOST_SIZE = 1_000_000
"""Of a dimension, of GPUs, of what a server runs at once."""
MOST_PRICE = 10**9
"""Of a GPU's hour, in any currency."""


class Limit:
    """Bounds for one scalar, in the words of pydantic-core; no conversion is made."""

    def __init__(self, **bounds: Any) -> None:
        self.bounds = bounds

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """The scalar's schema with these bounds (pydantic's hook for Annotated metadata)."""
        return {**handler(source), "strict": True, **self.bounds}


class Reading:
    """What may be written as text: ``32k`` tokens, ``3GiB``, ``33,28`` layers."""

    def __init__(
        self, parse: Callable[[str], Any], *, digits: bool = False, also: int | None = None
    ) -> None:
        """``digits``: a bare number is read as its digits are: ``44`` bytes are refused.

        ``also`` is a number that is a word: -1.
        """
        self.parse, self.digits, self.also = parse, digits, also

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        """The scalar's schema behind a step that reads text (pydantic's hook)."""
        from pydantic_core import core_schema

        return core_schema.no_info_before_validator_function(self._read, handler(source))

    def _read(self, value: Any) -> Any:
        bare = self.digits and type(value) in (int, float) and 0 < value < MOST_COUNT
        word = type(value) is int and value == self.also
        if not isinstance(value, str) and not bare and not word:
            return value
        try:
            return self.parse(str(value))
        except UsageError as error:
            raise ValueError("; ".join(filter(None, (error.message, error.hint)))) from None


def whole(name: str, value: object, most: int = MOST_COUNT) -> int:
    """The value where it is a whole number, one to ``most``. Raises UsageError."""
    return _at_most(name, positive(name, value), most)


def amount(name: str, value: object, most: int) -> int | float:
    """The value where it is a number, zero to ``most``. Raises UsageError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < inf:
        raise UsageError(f"{name} must be a finite number, zero or more")
    return _at_most(name, value, most)


Number = TypeVar("Number", int, float)


def _at_most(name: str, value: Number, most: int) -> Number:
    if value > most:
        raise UsageError(f"{name} is more than {number(most)}, the most that is taken")
    return value


Size = Annotated[int, Limit(gt=0, le=MOST_SIZE)]
Tokens = Annotated[int, Limit(gt=0, le=1 << 40)]
Count = Annotated[int, Limit(gt=0, le=MOST_COUNT)]
Text = Annotated[str, Limit(min_length=1, max_length=2_000, pattern=r"\S")]
Flag = Annotated[bool, Limit()]
WrittenTokens = Annotated[int, Limit(gt=0, le=MOST_TOKENS), Reading(parse_tokens)]
WrittenContext = Annotated[
    Annotated[int, Limit(gt=0, le=MOST_TOKENS)] | None, Reading(parse_context, also=AUTO_CONTEXT)
]
WrittenBytes = Annotated[int, Limit(gt=0, le=MOST_COUNT), Reading(parse_bytes, digits=True)]
WrittenBytesOrZero = Annotated[int, Limit(ge=0, le=MOST_COUNT), Reading(parse_bytes, digits=True)]
Share = Annotated[float, Limit(gt=0, le=1, allow_inf_nan=False)]
Percent = Annotated[float, Limit(ge=0, le=100, allow_inf_nan=False)]


class Input:
    """Base of everything read from a file: no unknown keys, no conversions, no changes.

    A user's file is validated by pydantic against these classes; the catalogue, which the tests
    validate in the same way, is built from its data without that (``from_data``).
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    @classmethod
    def prepared(cls, data: Any) -> Any:
        """The data of a file as the class takes it."""
        return data

    @classmethod
    def parts(cls) -> dict[str, type[Any]]:
        """Classes of the parts that a file names, for what is to be said of their keys."""
        return {}
