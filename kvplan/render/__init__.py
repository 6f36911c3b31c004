"""Outputs: each turns a report into one string and prints nothing."""

from __future__ import annotations

from kvplan.report import Report

ALWAYS_UTF_8 = ("json", "junit", "yaml")
"""Formats that say or mean their own encoding, whatever the terminal's is."""


def render(report: Report, output: str, width: int | None = None) -> str:
    """The report as text in this format; "junit" and "github" are for reports of findings.

    ``width`` is the terminal's, None where there is none. Drawing for terminals is loaded only
    when asked for.
    """
    match output:
        case "table":
            from kvplan.render import terminal

            return terminal.render(report, width)
        case "json":
            from kvplan.render import json_document

            return json_document.render(report)
        case "markdown":
            from kvplan.render import markdown

            return markdown.render(report)
        case "csv":
            from kvplan.render import comma_separated

            return comma_separated.render(report)
        case "junit":
            from kvplan.render import junit

            return junit.render(report)
        case "github":
            from kvplan.render import github

            return github.render(report)
        case _:
            raise ValueError(f"{output} is not a format")


def message(line: str, width: int | None) -> str:
    """A line of stderr for a terminal: its first word in colour, and folded between words."""
    from kvplan.render import terminal

    return terminal.message(line, width)
