"""Markdown, parsed again with markdown-it; with its linkify and GitHub's parser where they are."""

from __future__ import annotations

import html
import re
from importlib.util import find_spec
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from kvplan.render.github import summary
from kvplan.render.markdown import render
from kvplan.render.plain import inert
from kvplan.units import visible
from tests.render.hostile import report, texts
from tests.render.runner import commands

LINKIFY = find_spec("linkify_it") is not None
PARSER = MarkdownIt("gfm-like", {"linkify": LINKIFY, "html": True})
PLAIN = {"text", "code_inline", "text_special"}
INLINE = PLAIN | {"strong_open", "strong_close"}

# What GitHub links outside of code (GFM 6.9, and its autolinked references and mentions).
LINKED = re.compile(
    r"https?://|ftp://|www\.|@|#\d|\bGH-\d|\b[0-9a-f]{7,40}\b|:\w+:|\$", re.IGNORECASE
)


def table(text: str) -> tuple[list[list[str]], list[str]]:
    """Cells of each row as a reader sees them, and the text that is not code."""
    rows: list[list[str]] = []
    prose: list[str] = []
    tokens = PARSER.parse(text)
    for token, inside in pairwise(tokens):
        if token.type == "tr_open":
            rows.append([])
        elif token.type in ("td_open", "th_open", "paragraph_open", "heading_open"):
            parts = inside.children or []
            assert {part.type for part in parts} <= INLINE, text
            prose.append("".join(part.content for part in parts if part.type != "code_inline"))
            cell = "".join(part.content for part in parts if part.type in PLAIN)
            if token.type in ("td_open", "th_open"):
                assert not {part.type for part in parts} - PLAIN
                rows[-1].append(cell)
        else:
            assert not token.type.startswith(("html", "link", "image", "code", "fence"))
    return rows, prose


def squeezed(text: str) -> str:
    return re.sub(" +", " ", text).strip()


@given(texts(), texts())
@example("a@b.co", "\\| `x` | `` $` b `$ |www.a.com")
@example("https://x|y.com\\", "`")
@example("💩.la", "x.py:3: _a_ **b**")
def test_a_name_is_text_in_its_cell(one: str, other: str) -> None:
    rows, prose = table(summary(report(one, other)))
    assert [len(row) for row in rows] == [3, 3, 3]
    for row, name in zip(rows[1:], (one, other), strict=True):
        assert squeezed(row[0]) == squeezed(inert(visible(name)))
        assert squeezed(row[1]) == squeezed(inert(visible(f"x {name}")))
    for text in prose:
        assert not LINKED.search(text), text
    assert commands(summary(report(one, other))) == []


@pytest.mark.skipif(find_spec("cmarkgfm") is None, reason="GitHub's own parser is not here")
@given(st.lists(texts(), min_size=1, max_size=3))
@example(["a@evil.com", "https://evil.example", "www.evil.com"])
def test_github_makes_nothing_of_a_name(names: list[str]) -> None:
    import cmarkgfm

    page = cmarkgfm.github_flavored_markdown_to_html(render(report(*names)))
    tags = set(re.findall(r"<(/?[a-z0-9]+)", page))
    plain = {"table", "thead", "tbody", "tr", "th", "td", "p", "strong", "code"}
    assert {tag.strip("/") for tag in tags} <= plain
    cells = re.findall(r"<td[^>]*>(.*?)</td>", page)
    assert len(cells) == 3 * len(names)
    for cell, name in zip(cells[::3], names, strict=True):
        read = html.unescape(re.sub("</?code>", "", cell))
        assert squeezed(read) == squeezed(inert(visible(name)))


def test_ordinary_cells_are_no_code() -> None:
    text = render(report("llama3-70b", "80 x 1,024 (GQA) at 0.92"))
    assert "| llama3-70b | x llama3-70b | 1,024 |" in text
    assert "`" not in text
