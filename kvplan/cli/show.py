"""``kvplan show``."""

from __future__ import annotations

from kvplan.cli.options import Assume, Display, Draft, KVDtype, Model, assumed_kind
from kvplan.cli.output import answer


def show(
    model: Model,
    kv_cache_dtype: KVDtype = "auto",
    draft: Draft = False,
    display: Display = Display(),
    assume: Assume = None,
) -> None:
    """Show what each group of a model's layers keeps, with the formula and its numbers."""
    from kvplan.registry.names import load
    from kvplan.views.show import show_report

    spec = load(model, assumed_kind(assume))
    answer(show_report(spec, kv_cache_dtype, draft=draft), display.format)
