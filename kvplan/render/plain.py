"""Text from outside is data: what a terminal or a CI runner would obey is shown as its escape."""

from __future__ import annotations

import re

# A line that begins with "::" (actions/runner, ActionCommand.TryParseV2: after its blanks), or has
# "##[" (TryParse) or "##vso[" (Azure Pipelines) anywhere in it, is a command to the runner.
_AT_THE_START = re.compile(r"^(\s*):(?=:)")
_ANYWHERE = re.compile(r"#(?=#\w*\[)")


def inert(line: str) -> str:
    """The line with nothing in it that a CI runner would take for a command."""
    return _ANYWHERE.sub(r"\\x23", _AT_THE_START.sub(r"\1\\x3a", line))
