"""``--emit``: the command that realises a plan, in the place of the plan."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from kvplan.cli.engine_options import Serving
from kvplan.cli.options import Display, Load, Screen
from kvplan.cli.output import complain, say, write
from kvplan.cli.values import ENGINE, choice
from kvplan.engines.versions import NONE, VLLM
from kvplan.errors import UsageError

if TYPE_CHECKING:
    from kvplan.planner.plan import Plan
    from kvplan.registry.checkpoints import Checkpoint


class Form(StrEnum):
    """What ``--emit`` prints."""

    SHELL = "shell"
    K8S = "k8s"


Emit = Annotated[
    Form | None,
    choice(
        "--emit",
        metavar="[=FORM]",
        among=Form,
        panel=ENGINE,
        help_="Print the vllm serve command that realises the plan, or container args",
    ),
]


def of_server(serving: Serving, form: Form | None, display: Display) -> Serving:
    """The options of a plan whose command is to be printed: vLLM's, unless a version is named."""
    if form is None:
        return serving
    if display.format != "table":
        raise UsageError(f"--emit prints a command, not {display.format}", "leave --format out")
    return replace(serving, engine=VLLM) if serving.engine == NONE else serving


def emit(plan: Plan, form: Form, model: str, load: Load, screen: Screen) -> NoReturn:
    """Print the command alone on stdout, the rest on stderr; exit as the plan does.

    Of a plan that does not fit nothing is printed: a server that would not start is no answer.
    """
    from kvplan.views.command import Names, container, shell_command
    from kvplan.views.plan import plan_report

    report = plan_report(plan)
    if not plan.fits:
        complain(f"error: {report.answer.text if report.answer else ''}")
        say(report.warnings, (), screen)
        raise typer.Exit(report.exit_code)
    own, drafter = _checkpoints(plan, model, load)
    command = (container if form is Form.K8S else shell_command)(
        plan, Names(own.name, drafter.name if drafter else None)
    )
    write(command.text)
    if not screen.quiet:
        complain(*(f"note: {note}" for note in (*_choices(own), *command.notes)))
    say(report.warnings, (), screen)
    raise typer.Exit(report.exit_code)


def _checkpoints(plan: Plan, model: str, load: Load) -> tuple[Checkpoint, Checkpoint | None]:
    from kvplan.registry.checkpoints import checkpoint_of

    drafter = plan.question.draft_model
    if drafter is None:
        return checkpoint_of(model, plan.question.models[0]), None
    named = load.draft_model or _drafter_of(plan)
    return checkpoint_of(model, plan.question.models[0]), checkpoint_of(named, drafter)


def _drafter_of(plan: Plan) -> str:
    from kvplan.engines.speculation import read_speculation

    return read_speculation(plan.question.speculative_config or "{}").model or ""


def _choices(checkpoint: Checkpoint) -> list[str]:
    """What else the model may be, where the catalogue has several with the same figures."""
    if not checkpoint.others:
        return []
    others = ", ".join(checkpoint.others)
    return [f"{checkpoint.name} has the same figures as {others}: put in its place what you serve"]
