"""``kvplan compare``."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from kvplan.cli.options import (
    Assume,
    Degrees,
    Display,
    Hardware,
    Load,
    Models,
    Server,
    as_options,
)
from kvplan.cli.output import answer
from kvplan.errors import UsageError
from kvplan.question import DEFAULT_CONTEXT


def compare(
    models: Models,
    load: Load = Load(context_tokens=DEFAULT_CONTEXT, sequences=1),
    hardware: Hardware = Hardware(),
    degrees: Degrees = Degrees(),
    server: Server = Server(),
    display: Display = Display(),
    variants: Annotated[
        bool, typer.Option("--variants", help="Show one model as MHA, GQA-8, MQA and as it is.")
    ] = False,
    assume: Assume = None,
) -> None:
    """Put models side by side: bytes per token, cache, weights, GPUs, longest context."""
    from kvplan.planner import compare as comparing
    from kvplan.question import ask
    from kvplan.views.compare import compare_report

    if variants and len(models) != 1:
        raise UsageError("--variants draws one model at a time", "name a single MODEL")
    options = as_options(load, hardware, degrees, server, assume=assume)
    question = ask(models, **options)
    if variants:
        designs = comparing.variants(question.models[0], question.kv_cache_dtype)
        question = replace(question, models=tuple(designs), kv_cache_dtype="auto")
    answer(compare_report(comparing.compare(question)), display.format, display)
