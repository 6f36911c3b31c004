"""How a command says what it takes (``--help``), and answers a word that it does not know."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import Any, cast, get_args

import typer
from typer.core import TyperCommand, TyperGroup

from kvplan.cli.output import write_help
from kvplan.cli.values import (
    ENGINE,
    GPU,
    LAYOUT,
    MEASUREMENT,
    MEMORY,
    NUMBERS,
    OUTPUT,
    SPELLING,
    WORKLOAD,
)
from kvplan.errors import nearest

_ARGUMENTS, _OWN = "Arguments", "Options"
TITLES = (_ARGUMENTS, _OWN, MEASUREMENT, WORKLOAD, GPU, LAYOUT, MEMORY, ENGINE, OUTPUT)
WIDEST = 100  # columns: longer lines are hard to read
_LONGEST = 31  # "-pp, --pipeline-parallel-size N"; a longer name has a line of its own


class NoSuchWordError(typer.TyperException):
    """A word that there is none of, or that lacks. ``hint`` says what may be meant."""

    exit_code = 2

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class _Help:
    """A command whose ``--help`` is written as any other answer is."""

    def get_help_option(self, ctx: Any) -> Any:
        """The option, with a callback of our own."""
        option = super().get_help_option(ctx)  # type: ignore[misc]
        if option is not None:
            option.callback = _write_help
            option.help = "Show this."
        return option

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As typer does it. Raises NoSuchWordError for an option that is not known."""
        typed = list(args)
        try:
            words = _with_words(ctx, args)
            return cast("list[str]", super().parse_args(ctx, words))  # type: ignore[misc]
        except typer.TyperException as error:
            if hasattr(error, "possibilities"):
                raise _no_such_option(ctx, _as_typed(ctx, error, typed)) from None
            raise _cannot_be_read(ctx, error) from None

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """What it does, its usage, what it takes in groups, and examples."""
        text, _, examples = self.help.partition("\n\nExamples:\n")  # type: ignore[attr-defined]
        for paragraph in text.split("\n\n"):
            formatter.write(f"{_wrapped(paragraph, formatter.width)}\n\n")
        formatter.write(f"Usage: {_usage(ctx)}\n")
        sections = list(self.sections(ctx))
        names = [len(name) for _, rows in sections for name, _ in rows if len(name) <= _LONGEST]
        for title, rows in sections:
            formatter.write(f"\n{title}:\n{_rows(rows, max(names), formatter.width)}")
        if any(param.metavar in NUMBERS for param in ctx.command.params):
            formatter.write(f"\n{_wrapped(SPELLING, formatter.width)}\n")
        if examples:
            lines = textwrap.indent(textwrap.dedent(examples).strip(), "  ")
            formatter.write(f"\nExamples:\n{lines}\n")

    def sections(self, ctx: Any) -> Iterator[tuple[str, list[tuple[str, str]]]]:
        """Titles, and under each the names of what it has with their explanation."""
        sections: dict[str, list[tuple[str, str]]] = {title: [] for title in TITLES}
        for param in ctx.command.get_params(ctx):
            if record := param.get_help_record(ctx):
                names, text = record
                text = text.removesuffix("[required]").rstrip()
                if param.param_type_name == "argument":
                    names = names.strip("[]")
                sections[_title(ctx, param)].append((names, text))
        yield from ((title, rows) for title, rows in sections.items() if rows)


class Commands(_Help, TyperGroup):
    """All commands."""

    def sections(self, ctx: Any) -> Iterator[tuple[str, list[tuple[str, str]]]]:
        """The commands, each with the first sentence of its help, and the options."""
        yield "Commands", [(name, summary(command)) for name, command in self.commands.items()]
        yield from super().sections(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command of this name. Raises NoSuchWordError with the nearest ones."""
        if args[0] not in self.commands and not ctx.resilient_parsing:
            message = f"no such command: {args[0][:60]}"
            near = _did_you_mean(args[0], self.commands) or _of_model(args[0])
            raise NoSuchWordError(message, f"{near}kvplan --help shows all commands")
        return super().resolve_command(ctx, args)


class Command(_Help, TyperCommand):
    """One command."""


def _of_model(word: str) -> str:
    """What to ask of a model whose name stands in the place of a command."""
    from kvplan.registry.names import model_files

    name = word.lower()
    return f"kvplan plan {name}, or kvplan show {name}? " if name in model_files() else ""


def summary(command: Any) -> str:
    """The first paragraph of its help."""
    return " ".join(command.help.partition("\n\n")[0].split())


def _write_help(ctx: Any, _option: Any, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        write_help(ctx.get_help())
        ctx.exit()


def _title(ctx: Any, param: Any) -> str:
    if param.param_type_name == "argument":
        return _ARGUMENTS
    last = OUTPUT if ctx.parent else _OWN
    return getattr(param, "rich_help_panel", None) or (last if param.name == "help" else _OWN)


def _usage(ctx: Any) -> str:
    command = ctx.command
    if isinstance(command, TyperGroup):
        return f"{ctx.command_path} COMMAND [OPTIONS]"
    words = [
        param.metavar if param.required else f"[{param.metavar.strip('[]')}]"
        for param in command.params
        if param.param_type_name == "argument"
    ]
    name = f"{ctx.find_root().info_name} {ctx.info_name}"
    return " ".join([name, *words, "[OPTIONS]"])


def _wrapped(text: str, width: int, indent: str = "") -> str:
    """The text in lines of that width at most, broken at blanks alone, a default not at all."""
    lines = textwrap.fill(
        " ".join(text.split()).replace("[default: ", "[default:\N{NO-BREAK SPACE}"),
        width,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return lines.replace("\N{NO-BREAK SPACE}", " ")


def _rows(rows: Iterable[tuple[str, str]], names_width: int, width: int) -> str:
    """Each name with its text beside it, or below it where the name is longer than that."""
    left = " " * (names_width + 4)
    lines: list[str] = []
    for name, text in rows:
        body = _wrapped(text, width, left)
        if len(name) > names_width:
            lines += [f"  {name}", body]
        else:
            lines.append(f"  {name}".ljust(len(left)) + body.removeprefix(left))
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _with_words(ctx: Any, args: list[str]) -> list[str]:
    """The arguments with the first word for an option that may stand without one: ``--emit``."""
    optional = {
        name: next(iter(get_args(ctx.command.callback.__annotations__[param.name])[0].__args__[0]))
        for param in ctx.command.params
        if (param.metavar or "").startswith("[=")
        for name in param.opts
    }
    end = args.index("--") if "--" in args else len(args)
    return [*(f"{a}={optional[a]}" if a in optional else a for a in args[:end]), *args[end:]]


def _options(ctx: Any) -> list[str]:
    return [name for param in ctx.command.get_params(ctx) for name in _names(param)]


def _names(param: Any) -> list[str]:
    """How an option is spelt; an argument has no name."""
    return [*param.opts, *param.secondary_opts] if param.param_type_name == "option" else []


def _as_typed(ctx: Any, error: Any, typed: list[str]) -> str:
    """The word with the unknown option: typer reads ``-dpa`` as ``-d -p -a``."""
    known = _options(ctx)
    words = [word.partition("=")[0] for word in typed]
    for word in words:
        bundle = word[:1] == "-" and word[1:2] != "-" and error.option_name[1:] in word
        if word not in known and (word == error.option_name or bundle):
            return word
    return str(error.option_name)


def _no_such_option(ctx: Any, typed: str) -> NoSuchWordError:
    """The refusal of this option, with the nearest ones, or with the commands that have it."""
    name = ctx.info_name if ctx.parent else None
    hint = f"kvplan help {name} shows its options" if name else "kvplan --help shows the options"
    near = _did_you_mean(typed, _options(ctx))
    commands = (ctx.parent or ctx).command.commands
    others = [
        other
        for other, command in commands.items()
        if any(typed in _names(param) for param in command.params)
    ]
    if others and not name:
        return NoSuchWordError(
            f"{typed} stands before the command", f"write it behind: kvplan COMMAND ... {typed}"
        )
    if others:
        message = f"kvplan {name} has no option {typed}"
        return NoSuchWordError(
            message, f"{', '.join(others)} take{'s' * (len(others) == 1)} it; {near}{hint}"
        )
    return NoSuchWordError(f"no such option: {typed[:60]}", f"{near}{hint}")


def _cannot_be_read(ctx: Any, error: Any) -> NoSuchWordError:
    """The refusal of a line that lacks a word or a value, or has one too many, with an example."""
    name, param = ctx.info_name, getattr(error, "param", None)
    known = {spelt: each for each in ctx.command.params for spelt in _names(each)}
    option = known.get(getattr(error, "option_name", ""))
    text = error.format_message().rstrip(".")
    if hasattr(error, "param_type") and param is not None:
        word = param.metavar.strip("[].") if param.param_type_name == "argument" else param.opts[0]
        message = f"kvplan {name}: {word} is missing"
    elif option is not None:
        needs = "takes no value" if option.is_flag else f"needs a value: {option.metavar}"
        message = f"{error.option_name} {needs}"
    elif "extra argument" in text:
        message = f"kvplan {name}: one word too many: {text.rpartition(' (')[2].rstrip(')')}"
    else:
        message = f"{text[:1].lower()}{text[1:]}"
    lines = ctx.command.help.partition("\n\nExamples:\n")[2].splitlines()
    example = next(line.strip() for line in lines if "kvplan" in line and "#" not in line)
    listed = "; kvplan list shows the models" if getattr(param, "metavar", "") in _MODELS else ""
    return NoSuchWordError(message, f"for example: {example}{listed}")


_MODELS = {"MODEL", "MODEL...", "A", "B"}


def _did_you_mean(typed: str, known: Iterable[str]) -> str:
    """The nearest words as the beginning of a hint; nothing where none is near."""
    known = list(known)
    word = typed.replace("_", "-").lower()
    if word in known:
        return f"did you mean {word}? "
    begun = [name for name in known if len(word.strip("-")) > 1 and name.startswith(word)]
    near = list(dict.fromkeys([*begun, *nearest(word, known)]))[:3]
    return f"did you mean {' or '.join(near)}? " if near else ""
