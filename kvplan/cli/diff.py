"""``kvplan diff``."""

from __future__ import annotations

from typing import Annotated

import typer

from kvplan.cli.options import Context, Display, KVDtype
from kvplan.cli.output import answer
from kvplan.question import DEFAULT_CONTEXT


def diff(
    one: Annotated[str, typer.Argument(metavar="A", help="A model, or a *.lock.json.")],
    other: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    context_tokens: Context = DEFAULT_CONTEXT,
    kv_cache_dtype: KVDtype = "auto",
    display: Display = Display(),
) -> None:
    """Show in which figures two models, or two lock files, differ."""
    from kvplan.checks.diff import difference
    from kvplan.units import parse_tokens
    from kvplan.views.diff import diff_report

    tokens = parse_tokens(context_tokens or DEFAULT_CONTEXT)
    answer(diff_report(difference(one, other, tokens, kv_cache_dtype), one, other), display.format)
