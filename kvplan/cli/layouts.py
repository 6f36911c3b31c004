"""``kvplan layouts``."""

from __future__ import annotations

from kvplan.cli.engine_options import Serving
from kvplan.cli.options import (
    Assume,
    Display,
    Hardware,
    Load,
    Model,
    Server,
    as_options,
    check_context,
)
from kvplan.cli.output import answer


def layouts(
    model: Model,
    load: Load = Load(sequences=1),
    hardware: Hardware = Hardware(gpus=8),
    server: Server = Server(),
    serving: Serving = Serving(),
    display: Display = Display(),
    assume: Assume = None,
) -> None:
    """Put every layout of so many GPUs side by side.

    Tensor, data, pipeline, expert and context parallelism, in every combination that can be.

    Examples:
        # How are eight H200s best shared out?
        kvplan layouts deepseek-v3 --gpu h200 --gpus 8 --ctx 128k
        # And for many short sequences, on four?
        kvplan layouts gpt-oss-120b --gpus 4 --ctx 8k --sequences 64
    """
    from kvplan.planner.solve import rank_layouts
    from kvplan.question import ask, with_context
    from kvplan.views.layouts import layouts_report

    check_context(load, "layouts")
    options = as_options(load, hardware, server, serving, assume=assume)
    question = with_context(ask([model], **options))
    answer(layouts_report(rank_layouts(question.models[0], question)), display.format, display)
