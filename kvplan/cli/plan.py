"""``kvplan plan``."""

from __future__ import annotations

from typing import Annotated

from kvplan.cli.emit import Emit, emit, of_server
from kvplan.cli.engine_options import Serving
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
from kvplan.cli.values import GPU, option
from kvplan.units import parse_decimal

Price = Annotated[
    float | None,
    option(
        "--price",
        metavar="PRICE",
        read=parse_decimal,
        panel=GPU,
        help_="Price of a GPU for an hour.",
    ),
]


def plan(
    model: Model,
    load: Load = Load(),
    hardware: Hardware = Hardware(),
    degrees: Degrees = Degrees(),
    server: Server = Server(),
    serving: Serving = Serving(),
    display: Display = Display(),
    price: Price = None,
    form: Emit = None,
    assume: Assume = None,
) -> None:
    """Plan a deployment: what fits, how long, on how many GPUs.

    Of context, sequences and GPUs, what is not given is found.

    Examples:
        # How many GPUs do 64 sequences of 32k tokens take?
        kvplan plan deepseek-v3 --gpu h200 --ctx 32k --sequences 64
        # Which command starts vLLM on four H100s, with the cache in FP8?
        kvplan plan llama3.3-70b --gpus 4 --ctx 32k --kv-cache-dtype fp8 --emit
    """
    from kvplan.planner.runner_up import runner_up
    from kvplan.planner.solve import solve, solve_native
    from kvplan.question import ask
    from kvplan.views.plan import plan_report

    serving = of_server(serving, form, display)
    options = as_options(load, hardware, degrees, server, serving, assume=assume, price=price)
    question = ask([model], **options)
    spec = question.models[0]
    best = solve(spec, question)
    if form is not None:
        emit(best, form, model, load, display)
    answer(
        plan_report(best, solve_native(spec, question), runner_up(best)), display.format, display
    )
