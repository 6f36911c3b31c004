"""``kvplan help``."""

from __future__ import annotations

from typing import Annotated, Any, cast

import typer  # noqa: TC002 - typer reads the annotation

from kvplan.cli.output import write_help
from kvplan.cli.values import argument


def help_(
    ctx: typer.Context,
    command: Annotated[str | None, argument("COMMAND", "Which; all where none is given.")] = None,
) -> None:
    """Show what a command does, what it takes, and examples.

    Examples:
        # What can be asked of a plan?
        kvplan help plan
        # What else is there?
        kvplan help
    """
    root: Any = ctx.find_root()
    if command is None:
        write_help(root.get_help())
        return
    name, found, _ = root.command.resolve_command(root, [command])
    with cast("Any", found).make_context(name, [], parent=root, resilient_parsing=True) as asked:
        write_help(asked.get_help())
