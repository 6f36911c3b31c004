"""Some hundred inputs of every kind; ``python -m tests.fuzz`` runs as many as one likes."""

from __future__ import annotations

import pytest

from tests.fuzz.inputs import draw_input
from tests.fuzz.trial import run

SEED = 20261130
INPUTS = 40


@pytest.mark.parametrize("kind", ["spec", "config", "deployments", "lock", "GPU", "options"])
def test_hostile_inputs_are_answered_or_refused(kind: str) -> None:
    """Exit codes 0 to 3, no traceback, no raw control characters, JSON where it is asked for."""
    codes = set()
    for number in range(INPUTS):
        tried = draw_input(SEED, number, kind)
        outcome = run(tried)
        codes.add(outcome.returncode)
        again = f"python -m tests.fuzz --seed {SEED} --kind {kind} --only {number}"
        assert not outcome.problem, f"{outcome.problem}; again: {again}"
    assert {0, 2} <= codes  # some are answered, some are not


def test_an_input_is_the_same_whatever_came_before_it() -> None:
    assert draw_input(SEED, 7) == draw_input(SEED, 7)
    assert draw_input(SEED, 7) != draw_input(SEED, 8)
