"""``kvplan engines``."""

from __future__ import annotations

from kvplan.cli.options import Display
from kvplan.cli.output import answer


def engines(display: Display = Display()) -> None:
    """List the engines that --engine takes, with their versions.

    Examples:
        # Whose accounting can a plan follow, and what does each answer?
        kvplan engines
        # Which options does only an engine read?
        kvplan engines --json
    """
    from kvplan.views.engines import engines_report

    answer(engines_report(), display.format, display)
