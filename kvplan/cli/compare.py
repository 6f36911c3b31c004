"""``kvplan compare``."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from kvplan.cli.engine_options import Serving
from kvplan.cli.options import (
    Assume,
    Degrees,
    Display,
    Hardware,
    Load,
    Models,
    Server,
    as_options,
    check_context,
)
from kvplan.cli.output import answer
from kvplan.cli.values import WORKLOAD
from kvplan.errors import UsageError


def compare(
    models: Models,
    load: Load = Load(sequences=1),
    hardware: Hardware = Hardware(),
    degrees: Degrees = Degrees(),
    server: Server = Server(),
    serving: Serving = Serving(),
    display: Display = Display(),
    variants: Annotated[
        bool,
        typer.Option(
            "--variants",
            rich_help_panel=WORKLOAD,
            help="Show one model as MHA, GQA-8, MQA and as it is.",
        ),
    ] = False,
    assume: Assume = None,
) -> None:
    """Put models side by side: cache, weights, GPUs, context.

    Examples:
        # What do 128k tokens cost in each, and how many GPUs does each take?
        kvplan compare llama3.3-70b deepseek-v3 --ctx 128k
        # What do grouped heads save, on a GPU that you own?
        kvplan compare qwen3-8b --variants --gpu rtx-4090
    """
    from kvplan.planner import compare as comparing
    from kvplan.question import ask, with_context
    from kvplan.views.compare import compare_report

    if variants and len(models) != 1:
        raise UsageError("--variants draws one model at a time", "name a single MODEL")
    check_context(load, "compare")
    options = as_options(load, hardware, degrees, server, serving, assume=assume)
    question = with_context(ask(models, **options))
    if variants:
        designs = comparing.variants(question.models[0], question.kv_cache_dtype)
        question = replace(question, models=tuple(designs), kv_cache_dtype="auto")
    answer(compare_report(comparing.compare(question)), display.format, display)
