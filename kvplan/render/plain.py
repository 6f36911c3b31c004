"""Text from a spec is data: control and direction-changing characters are shown, not obeyed."""

from __future__ import annotations


def visible(text: str) -> str:
    """The text on one line, with every unprintable character written as its escape."""
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
