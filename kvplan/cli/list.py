"""``kvplan list``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from kvplan.cli.options import Display
from kvplan.cli.output import answer
from kvplan.cli.values import argument, one_of, option
from kvplan.errors import UsageError


class Catalogue(StrEnum):
    """What can be listed."""

    MODELS = "models"
    GPUS = "gpus"
    FORMATS = "formats"


Kind = Annotated[
    str | None,
    option("--kind", metavar="KIND", help_="Only models with this kind of cache: mla, gqa."),
]
Search = Annotated[
    str | None,
    option("--search", metavar="TEXT", help_="Only those with this in a name or an id: qwen3 30b."),
]


def _catalogue(text: str) -> Catalogue:
    """Raises UsageError for any other word, with what it may have been meant for."""
    try:
        return one_of(Catalogue)(text)
    except UsageError as error:
        meant = "kvplan engines lists those" if text == "engines" else "--search TEXT finds names"
        raise UsageError(error.message, f"{error.hint}; {meant}") from None


def list_(
    what: Annotated[
        Catalogue, argument("WHAT", f"{', '.join(Catalogue)}.", _catalogue)
    ] = Catalogue.MODELS,
    kind: Kind = None,
    search: Search = None,
    display: Display = Display(),
) -> None:
    """List the models, GPUs or KV cache dtypes that kvplan knows.

    Examples:
        # Which models cache latents (MLA)?
        kvplan list models --kind mla
        # Which cards have 24 GB?
        kvplan list gpus --search 24gb
    """
    from kvplan.registry.names import found_gpus, found_models
    from kvplan.views import list as views

    if kind is not None and what is not Catalogue.MODELS:
        raise UsageError(
            f"--kind narrows models, not {what.value}", "kvplan list models --kind mla"
        )
    if search is not None and what is Catalogue.FORMATS:
        raise UsageError("--search finds models and GPUs", "kvplan list gpus --search 24gb")
    match what:
        case Catalogue.MODELS:
            report = views.models_report(found_models(search, kind), kind, search)
        case Catalogue.GPUS:
            report = views.gpus_report(found_gpus(search), search)
        case Catalogue.FORMATS:
            report = views.formats_report()
    answer(report, display.format, display)
