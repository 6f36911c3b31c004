"""``kvplan plan``."""

from __future__ import annotations

from typing import Annotated

from kvplan.cli.options import (
    Assume,
    Degrees,
    Display,
    Hardware,
    Load,
    Model,
    Server,
    as_options,
)
from kvplan.cli.output import answer
from kvplan.cli.values import option
from kvplan.units import parse_decimal


def plan(
    model: Model,
    load: Load = Load(),
    hardware: Hardware = Hardware(),
    degrees: Degrees = Degrees(),
    server: Server = Server(),
    display: Display = Display(),
    price: Annotated[
        float | None,
        option("--price", metavar="PRICE", read=parse_decimal, help_="Price of a GPU for an hour."),
    ] = None,
    assume: Assume = None,
) -> None:
    """Plan a deployment: what fits, how long a context, how many sequences, on how many GPUs."""
    from kvplan.planner.runner_up import runner_up
    from kvplan.planner.solve import solve, solve_native
    from kvplan.question import ask
    from kvplan.views.plan import plan_report

    options = as_options(load, hardware, degrees, server, assume=assume, price=price)
    question = ask([model], **options)
    spec = question.models[0]
    best = solve(spec, question)
    answer(
        plan_report(best, solve_native(spec, question), runner_up(best)), display.format, display
    )
