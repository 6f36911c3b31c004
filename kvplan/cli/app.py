"""Entry point: the commands, and every error as one clear line and the contract's exit code."""

from __future__ import annotations

import re
import sys
from typing import Annotated, Any, NoReturn

import typer

from kvplan import __version__
from kvplan.cli.check import check
from kvplan.cli.commands import WIDEST, Command, Commands, NoSuchWordError
from kvplan.cli.compare import compare
from kvplan.cli.completion import completion
from kvplan.cli.diff import diff
from kvplan.cli.engines import engines
from kvplan.cli.groups import spelled_out
from kvplan.cli.help import help_
from kvplan.cli.import_ import import_
from kvplan.cli.layouts import layouts
from kvplan.cli.list import list_
from kvplan.cli.measure import measure
from kvplan.cli.output import complain, write
from kvplan.cli.plan import plan
from kvplan.cli.show import show
from kvplan.errors import BUG, INTERRUPTED, KvplanError, SpecError, UsageError

HELP = """How much memory the KV cache of an LLM takes, right to the byte.

`kvplan help COMMAND` shows what a command takes, and examples.

Examples:
    # How many GPUs, for how many sequences?
    kvplan plan llama3.3-70b --gpu h200 --ctx 32k
    # Which of two models is the smaller one to serve?
    kvplan compare llama3.3-70b deepseek-v3 --ctx 128k
"""
COMMANDS = (
    *(compare, show, plan, layouts, measure, list_, engines, check, diff, import_),
    *(help_, completion),
)
# What a shell asks in the place of a command; see kvplan/cli/completion.py.
_COMPLETE = "__complete"
_REFUSES = " refuses it: "
"""What stands before an engine's own words."""

app = typer.Typer(
    name="kvplan",
    cls=Commands,
    help=HELP,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDEST},
)
for _command in COMMANDS:
    app.command(_command.__name__.rstrip("_"), cls=Command)(spelled_out(_command))


def _print_version(asked: bool) -> None:
    if asked:
        write(f"kvplan {__version__}\n")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", "-V", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    del version


def main() -> NoReturn:
    """Run the command line that this process was started with."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    try:
        code = _run(sys.argv[1:] or ["--help"])
    except KeyboardInterrupt as interrupt:
        code = getattr(interrupt, "exit_code", INTERRUPTED)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - 1 means "does not fit" alone
        code = _report(error)
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    """Exit code of this command. What goes wrong is raised.

    Typer's own way to run a command exits 1 where a pipe is closed, which means "does not fit".
    """
    command = typer.main.get_command(app)
    if arguments[0] == _COMPLETE:
        from kvplan.cli.candidates import answer

        write(answer(command, arguments[1:]))
        return 0
    try:
        with command.make_context("kvplan", arguments) as context:
            command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    return 0


def _report(error: Exception | SystemExit) -> int:
    """Exit code of this error, which is put in one line, its hint in another."""
    match error:
        case SpecError():
            first, *others = error.problems
            complain(f"error: {first}", *others)
        case KvplanError():
            complain(f"error: {_with_flags(error.message)}")
            complain(*([f"  {_with_flags(error.hint)}"] if error.hint else []))
        case NoSuchWordError():
            complain(f"error: {error.message}", f"  {error.hint}")
        case typer.TyperException():
            hint = "  kvplan --help shows the commands, kvplan COMMAND --help their options"
            complain(f"error: {error.format_message()}", hint)
        case typer.Abort():
            return INTERRUPTED
        case OSError():
            complain(f"error: {error}")
            return UsageError.exit_code
        case _:
            bug = f"error: a bug in kvplan: {type(error).__name__}: {error}"
            complain(bug, "  please report it with the command line that led here")
            return BUG
    return error.exit_code


def _with_flags(text: str) -> str:
    """The text with the names of a question as the command line writes them.

    What is quoted, as JSON is, and what an engine itself says when it refuses stay as they are.
    """
    own, refuses, quoted = text.partition(_REFUSES)
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    flags = {
        param.name: min(param.opts, key=len)
        for command in commands.values()
        for param in command.params
        if "_" in param.name
    }
    names = rf"(?<![\"'])\b({'|'.join(flags)})\b"
    return re.sub(names, lambda match: flags[match[1]], own) + refuses + quoted
