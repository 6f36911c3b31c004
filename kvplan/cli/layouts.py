"""``kvplan layouts``."""

from __future__ import annotations

from kvplan.cli.options import (
    Assume,
    Display,
    Hardware,
    Load,
    Model,
    Server,
    as_options,
)
from kvplan.cli.output import answer
from kvplan.question import DEFAULT_CONTEXT


def layouts(
    model: Model,
    load: Load = Load(context_tokens=DEFAULT_CONTEXT, sequences=1),
    hardware: Hardware = Hardware(gpus=8),
    server: Server = Server(),
    display: Display = Display(),
    assume: Assume = None,
) -> None:
    """Put every layout of so many GPUs side by side: tensor, data, pipeline, context parallel."""
    from kvplan.planner.solve import rank_layouts
    from kvplan.question import ask
    from kvplan.views.layouts import layouts_report

    options = as_options(load, hardware, server, assume=assume)
    question = ask([model], **options)
    answer(layouts_report(rank_layouts(question.models[0], question)), display.format, display)
