"""What a CI runner takes for a command, as actions/runner reads a line of output.

``src/Runner.Common/ActionCommand.cs`` at 079cdb1: ``TryParseV2`` and, where that finds nothing,
``TryParse``. Any command counts here, not only the registered ones. .NET ends a line of output
after CR, LF or both.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_PROPERTY = (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%"))


class Command(NamedTuple):
    """A command with its properties and data as the runner decodes them."""

    name: str
    properties: dict[str, str]
    data: str


def lines(output: str) -> list[str]:
    """The lines of output, as .NET's StreamReader reads them."""
    return re.split("\r\n|\r|\n", output)


def command(line: str) -> Command | None:
    """The command that the line is, if it is one."""
    start = line.lstrip()
    if start.startswith("::") and "::" in start[2:]:
        info, _, data = start[2:].partition("::")
        name, _, rest = info.partition(" ")
        pairs = (pair.partition("=") for pair in rest.strip().split(",") if pair)
        properties = {key: _decoded(value) for key, _, value in pairs}
        return Command(name, properties, _decoded(data, data=True))
    old = re.search(r"##\[(.*?)\]", line)
    return Command(old[1].partition(" ")[0], {}, line[old.end() :]) if old else None


def commands(output: str) -> list[Command]:
    """Every command in some output."""
    return [found for found in map(command, lines(output)) if found is not None]


def _decoded(text: str, *, data: bool = False) -> str:
    for code, char in _PROPERTY:
        if not data or code not in ("%3A", "%2C"):
            text = text.replace(code, char)
    return text
