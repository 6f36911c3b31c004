"""Names that mean something to a terminal, a CI runner, a spreadsheet or a Markdown page."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from kvplan.report import Column, Report, Table

FRAGMENTS = (
    *("\n", "\r", "\r\n", "\x0b", "\x0c", "\x85", "\u2028", "\u2029", "\t", " ", "\xa0"),
    *("\x1b[31m", "\x1b]8;;x\x07", "\x00", "\x7f", "\u202e", "\u2066", "\u200b", "\ufeff"),
    *("\ud800", "\udcff", "\ufffe", "\uffff", "é", "模型", "\U0001f600"),
    *("::error::x", "::set-env name=A::b", "::", ":", "##[error]x", "##[", "##vso[x]y", "#", "]"),
    *(
        "%",
        "%0A",
        "%25",
        ",",
        ";",
        "; ",
        '"',
        "'",
        "=",
        "=1+1",
        "＝1",
        "＋",
        "－1",
        "＠A",
        "-1",
        "+1",
    ),
    *(
        "|",
        "\\",
        "`",
        "``",
        "*",
        "**",
        "_",
        "~~",
        "<b>",
        "<!--",
        "]]>",
        "&lt;",
        "&#64;",
        "$",
        "$x$",
    ),
    *("[a](b)", "![a](b)", "<http://a.b>", "https://evil.example/a", "http:", "//", "www.evil.com"),
    *("evil.com", "a@evil.com", "@", "@user", "#12", "GH-12", "mailto:", ":tada:", "a1b2c3d4e5f6"),
)


def texts() -> st.SearchStrategy[str]:
    """Any text, and any mixture of such fragments."""
    piece = st.sampled_from(FRAGMENTS) | st.text(st.characters(), max_size=4)
    return st.lists(piece, max_size=8).map("".join)


def finding(text: str) -> dict[str, Any]:
    """A record of ``kvplan check`` with this text wherever a file or an argument names something.

    Findings without a deployment or a check are those of a whole file.
    """
    return {
        "file": text or "f.yaml",
        "line": 3,
        "deployment": text,
        "check": text,
        "status": "failed",
        "message": text,
        "exit_code": 1,
    }


def report(*names: str) -> Report:
    """A report that has these texts in its table's first column and title, and as findings."""
    columns = (Column("Name", "left"), Column("Why", "left"), Column("Bytes"))
    return Report(
        command="check",
        inputs={"files": list(names)},
        payload={"findings": {name: name for name in names}},
        records=[finding(name) for name in names],
        tables=(Table(names[0], columns, tuple((name, f"x {name}", "1,024") for name in names)),),
    )
