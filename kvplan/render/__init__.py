"""Outputs: each turns a report into one string and prints nothing."""

from __future__ import annotations

from importlib import import_module

from kvplan.report import Report

ALWAYS_UTF_8 = ("json", "junit", "sarif", "yaml")
"""Formats that say or mean their own encoding, whatever the terminal's is."""


def render(report: Report, output: str, width: int | None = None) -> str:
    """The report as text in this format; junit, github and sarif are for reports of findings.

    ``width`` is the terminal's, None where there is none. Drawing for terminals is loaded only
    when asked for.
    """
    if output == "table":
        from kvplan.render import terminal

        return terminal.render(report, width)
    if output not in _MODULES:
        raise ValueError(f"{output} is not a format")
    text: str = import_module(f"kvplan.render.{_MODULES[output]}").render(report)
    return text


_MODULES = {
    "json": "json_document",
    "markdown": "markdown",
    "csv": "comma_separated",
    "junit": "junit",
    "github": "github",
    "sarif": "sarif",
}
"""The file of each format that needs no width."""


def message(line: str, width: int | None) -> str:
    """A line of stderr for a terminal: its first word in colour, and folded between words."""
    from kvplan.render import terminal

    return terminal.message(line, width)


def help_page(text: str) -> str:
    """The help of a command for a terminal: titles, names and examples in colour."""
    from kvplan.render import terminal

    return terminal.help_page(text)
