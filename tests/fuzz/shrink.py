"""A failing input made smaller for as long as it fails in the same way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tests.fuzz.inputs import Input
from tests.fuzz.trial import Outcome, run, too_much

_MOST_TRIALS = 150
_SAME = 40
"""Characters of a problem that have to stay, without the figures that follow them."""


def shrink(failing: Input) -> Input:
    """The smallest input that was found to fail as this one does."""
    wanted, trials = _failure(run(failing)), 0
    smaller = True
    while smaller and wanted:
        smaller = False
        for candidate in _smaller(failing):
            trials += 1
            if trials > _MOST_TRIALS:
                return failing
            if _failure(run(candidate)) == wanted:
                failing, smaller = candidate, True
                break
    return failing


def _failure(outcome: Outcome) -> str:
    return outcome.problem[:_SAME] or ("too much" if too_much(outcome) else "")


def _smaller(tried: Input) -> Iterator[Input]:
    """The input without an argument, without a file, or without some lines of one."""
    for index in range(1, len(tried.arguments)):
        rest = (*tried.arguments[:index], *tried.arguments[index + 1 :])
        yield replace(tried, arguments=rest)
    for name, content in tried.files.items():
        others = {other: text for other, text in tried.files.items() if other != name}
        yield replace(tried, files=others)
        lines = content.splitlines(keepends=True)
        size = max(1, len(lines) // 2)
        while size:
            for start in range(0, len(lines), size):
                kept = b"".join([*lines[:start], *lines[start + size :]])
                if kept != content:
                    yield replace(tried, files={**tried.files, name: kept})
            size //= 2
