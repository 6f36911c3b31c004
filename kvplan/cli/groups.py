"""Groups of options: a command's dataclass parameters spelt out, and its help in their groups."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, cast, get_type_hints

from typer.core import TyperCommand, TyperGroup

from kvplan.cli.output import write
from kvplan.cli.values import NUMBERS, SPELLING


def spelled_out(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command with each dataclass parameter spelt out as that class's own options.

    A parameter's default, an instance, gives the options their defaults.
    """
    hints = get_type_hints(command, include_extras=True)
    parameters: list[inspect.Parameter] = []
    groups: dict[str, type[Any]] = {}
    for name, parameter in inspect.signature(command).parameters.items():
        if not is_dataclass(hints[name]):
            kind = inspect.Parameter.KEYWORD_ONLY
            parameters.append(parameter.replace(annotation=hints[name], kind=kind))
            continue
        groups[name] = cast("type[Any]", hints[name])
        parameters += _parameters(groups[name], parameter.default)

    def run(**values: Any) -> Any:
        for name, group in groups.items():
            own = {field.name: values.pop(field.name) for field in fields(group)}
            values[name] = group(**own)
        return command(**values)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _parameters(group: type[Any], given: Any) -> list[inspect.Parameter]:
    defaults = group() if given is inspect.Parameter.empty else given
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=getattr(defaults, field.name),
            annotation=hints[field.name],
        )
        for field in fields(group)
    ]


class _Help:
    """A command whose ``--help`` is written as any other answer is."""

    def get_help_option(self, ctx: Any) -> Any:
        """The option, with a callback of our own."""
        option = super().get_help_option(ctx)  # type: ignore[misc]
        if option is not None:
            option.callback = _write_help
        return option


def _write_help(ctx: Any, _option: Any, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        write(f"{ctx.get_help()}\n")
        ctx.exit()


class Commands(_Help, TyperGroup):
    """All commands."""


class GroupedHelp(_Help, TyperCommand):
    """A command whose ``--help`` lists its options in their groups."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Arguments first, then each group in the order of the options."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                is_argument = param.param_type_name == "argument"
                group = getattr(param, "rich_help_panel", None)
                title = "Arguments" if is_argument else group or "Options"
                sections.setdefault(title, []).append(record)
        for title in sorted(sections, key=lambda title: title == "Options"):
            with formatter.section(title):
                formatter.write_dl(sections[title])

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """How numbers are written, where the command takes any."""
        if any(param.metavar in NUMBERS for param in self.get_params(ctx)):
            formatter.write_paragraph()
            formatter.write_text(SPELLING)
