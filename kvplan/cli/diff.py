"""``kvplan diff``."""

from __future__ import annotations

from typing import Annotated

from kvplan.cli.options import Context, Display, KVDtype
from kvplan.cli.output import answer
from kvplan.cli.values import argument
from kvplan.question import DEFAULT_CONTEXT


def diff(
    one: Annotated[str, argument("A", "A model, or a *.lock.json.")],
    other: Annotated[str, argument("B", "Another one.")],
    context_tokens: Context = DEFAULT_CONTEXT,
    kv_cache_dtype: KVDtype = "auto",
    display: Display = Display(),
) -> None:
    """Show in which figures two models, or two lock files, differ.

    Examples:
        # What changes from one model to the next?
        kvplan diff llama3.1-8b qwen3-8b --ctx 32k
        # What did a change do to the deployments of CI?
        kvplan diff old.lock.json plan.lock.json
    """
    from kvplan.checks.diff import difference
    from kvplan.views.diff import diff_report

    found = difference(one, other, context_tokens or DEFAULT_CONTEXT, kv_cache_dtype)
    answer(diff_report(found, one, other), display.format, display)
