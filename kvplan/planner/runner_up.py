"""What a search would have chosen next, and why it did not choose it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from kvplan.parallel import Layout
from kvplan.planner.layouts import PIPELINE, UNASKED, Unasked
from kvplan.planner.plan import Plan
from kvplan.planner.solve import Search


@dataclass(frozen=True)
class RunnerUp:
    """The next best plan, and why it lost."""

    plan: Plan
    reason: Literal["slower", "holds less"] | Unasked


def runner_up(plan: Plan) -> RunnerUp | None:
    """What would have been chosen next, where the search chose the plan's layout.

    A smaller count of GPUs in a layout that is not chosen unasked goes before all others.
    """
    question = plan.question
    if question.layout is not None or not plan.fits:
        return None
    search = Search(plan.served.stored, question)
    search.context_tokens, search.sequences = plan.context_tokens, plan.sequences
    others: Iterable[Layout]
    if question.gpus is not None:
        others = search.layouts(question.gpus)
    else:
        fewer = _fewer(search, plan.layout.gpus)
        if fewer is not None:
            return fewer
        others = search.options(PIPELINE if plan.layout.pipeline > 1 else None)
    plans = (search.plan(other) for other in others if other != plan.layout)
    rivals = [other for other in plans if other.fits]
    if not rivals:
        return None
    best = min(rivals, key=search.rank)
    slower = (best.tokens_per_second or 0) < (plan.tokens_per_second or 0)
    return RunnerUp(best, "slower" if slower else "holds less")


def _fewer(search: Search, gpus: int) -> RunnerUp | None:
    """What holds the load on fewer GPUs, in a layout that is not chosen unasked."""
    found = {why: options for why in UNASKED if (options := search.options(why))}
    why = min(found, key=lambda why: found[why][0].gpus, default=None)
    if why is None or found[why][0].gpus >= gpus:
        return None
    return RunnerUp(min(map(search.plan, found[why]), key=search.rank), why)
