"""Numbers as people write them, searches and conversions of whole numbers."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kvplan
from kvplan.errors import UsageError
from kvplan.units import (
    gib,
    largest,
    number,
    parse_bytes,
    parse_count,
    parse_decimal,
    parse_layers,
    parse_tokens,
)


def test_the_largest_that_holds() -> None:
    assert largest(lambda number: number * number <= 50, 100) == 7
    assert largest(lambda _: True, 9) == 9
    assert largest(lambda _: False, 9) == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [(1_024, "1,024"), (576.5, "576.5"), (Fraction(1_153, 2), "576.5"), (8.0, "8"), (1e-5, "0")],
)
def test_a_fraction_is_shown_whichever_way_it_is_held(value: float | Fraction, text: str) -> None:
    """A lock file keeps the bytes of a token of a compressed cache as a decimal."""
    assert number(value) == text


def test_less_than_a_kilobyte_may_have_a_fraction() -> None:
    assert gib(576.5) == "576.5 B"
    assert gib(1_153.0) == "1.13 KiB"


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("3GiB", 3_221_225_472),
        ("3 GiB", 3_221_225_472),
        ("80GB", 80_000_000_000),
        ("80gb", 80_000_000_000),
        ("1TiB", 1_099_511_627_776),
        ("1.5KiB", 1_536),
        ("0.92GiB", 987_842_478),  # 987,842,478.08
        ("3221225472", 3_221_225_472),
        ("1000001", 1_000_001),
        ("0", 0),
        ("3B", 3),
    ],
)
def test_bytes_as_they_are_written(text: str, size_bytes: int) -> None:
    assert parse_bytes(text) == size_bytes


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("3", "write 3GiB"),
        ("0.92", "write 0.92GiB"),
        ("0.0", "write 0"),
        ("1", "write 1GiB"),
        ("24576", "write 24576MiB"),
        ("1000000", "write 1000000MiB"),
    ],
)
def test_a_forgotten_unit_is_no_silent_guess(text: str, hint: str) -> None:
    with pytest.raises(UsageError, match=f"{text} bytes") as raised:
        parse_bytes(text)
    assert raised.value.hint == hint


@pytest.mark.parametrize("text", ["2147483648.5", "0.1B", "1.5B", "0.0001KiB"])
def test_there_is_no_part_of_a_byte(text: str) -> None:
    with pytest.raises(UsageError):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("131072", 131_072),
        ("128k", 131_072),
        ("128K", 131_072),
        ("128Ki", 131_072),
        ("128 k", 131_072),
        ("1M", 1_048_576),
        ("1.5Mi", 1_572_864),
        ("128000", 128_000),
        ("1", 1),
    ],
)
def test_tokens_as_they_are_written(text: str, tokens: int) -> None:
    assert parse_tokens(text) == kvplan.parse_tokens(text) == tokens


def test_other_numbers_as_they_are_written() -> None:
    assert (parse_count("8"), parse_count("1000")) == (8, 1_000)
    assert [parse_decimal(text) for text in ("0", "0.92", "2.50", "3")] == [0, 0.92, 2.5, 3]
    assert parse_layers("33,28") == parse_layers("33, 28") == (33, 28)


READERS = (parse_count, parse_decimal, parse_tokens, parse_bytes, parse_layers)
# What int(), float() or PyYAML read as some number, and what no number looks like. The last five
# are the Kelvin sign and dotless and dotted i, which ignoring case would take for k and i, the
# no-break and the zero-width space.
MISSPELT = [
    *("", " ", "+8", "-8", "-0", "1_000", "1'000", "1.000.000", "010", "00", "0x10", "0b1", "0o17"),
    *("1e3", "1E6", ".5", "5.", "1:30", "nan", "inf", "-inf", "Infinity", ".inf", "true", "8 8"),
    *("８", "٨", "१", "¾", "²", "⑧", "VIII", "9" * 400, "9" * 5_000, "8\n", "\t8", "8\x00"),
    *("128\u212a", "1G\u0131B", "1G\u0130B", "8\u00a0", "8\u200b"),
]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("text", MISSPELT, ids=lambda text: ascii(text)[:12])
def test_a_number_has_one_spelling(read: Callable[[str], object], text: str) -> None:
    with pytest.raises(UsageError) as raised:
        read(text)
    assert len(raised.value.message) < 160
    assert "\n" not in raised.value.message


@given(st.text(alphabet="0189.,_+-eExkKmMiGB ８٨\u212a\n", max_size=8))
def test_what_is_read_is_what_is_written(text: str) -> None:
    """Nothing but a canonical decimal is read as a whole number, and that as itself."""
    canonical = text.isascii() and text.isdigit() and text == str(int(text)) and text != "0"
    if canonical:
        assert str(parse_count(text)) == text
    else:
        with pytest.raises(UsageError):
            parse_count(text)


@pytest.mark.parametrize(
    ("read", "text", "hint"),
    [
        (parse_tokens, "1_000", "write 1000"),
        (parse_tokens, "131,072", "write 131072"),
        (parse_tokens, " 8k ", "write 8k"),
        (parse_tokens, "1,5", "write 131072, 128k or 1M"),
        (parse_count, "+8", "write 8"),
        (parse_count, "８", "write 8"),
        (parse_count, "٨", "write 8"),
        (parse_count, "010", "leave the leading zero out"),
        (parse_count, " 8k", "write 8: digits alone"),
        (parse_bytes, "1_073_741_824", "write 1073741824"),
    ],
)
def test_the_hint_spells_it_where_it_is_plain(
    read: Callable[[str], object], text: str, hint: str
) -> None:
    with pytest.raises(UsageError) as raised:
        read(text)
    assert raised.value.hint == hint


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (parse_tokens, "1152921504606846977"),  # 2^60 + 1
        (parse_tokens, "99999999999999999999M"),
        (parse_bytes, "999999999999999999TiB"),
        (parse_count, "1000000000000000001"),
    ],
)
def test_no_memory_holds_more(read: Callable[[str], object], text: str) -> None:
    with pytest.raises(UsageError, match="more"):
        read(text)
