"""What is expected of a deployment, held against its plan: facts, to be worded by the views."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kvplan.checks.deployments import Deployment, Stated
from kvplan.planner.plan import Plan
from kvplan.units import json_number

Number = int | float


@dataclass(frozen=True)
class Fit:
    """Whether the deployment fits, and whether it is expected to."""

    fits: bool
    expected: bool

    @property
    def name(self) -> str:
        """The expectation's key in the file."""
        return "fits"

    @property
    def holds(self) -> bool:
        """Whether it is as expected."""
        return self.fits == self.expected


@dataclass(frozen=True)
class Bound:
    """A figure of the plan and the least or most that it may be; None is not bounded by memory."""

    name: str
    expected: Number
    actual: Number | None
    at_least: bool

    @property
    def holds(self) -> bool:
        """Whether the figure is within its bound."""
        if self.actual is None:
            return True
        return self.actual >= self.expected if self.at_least else self.actual <= self.expected


@dataclass(frozen=True)
class StatedFigure:
    """A figure as somebody stated it, and as it is."""

    stated: Stated
    actual: Number | None

    @property
    def name(self) -> str:
        """What the finding is called."""
        return f"stated {self.stated.figure}"

    @property
    def holds(self) -> bool:
        """Whether they differ by no more than the tolerance."""
        allowed = self.stated.value * self.stated.tolerance_percent / 100
        return self.actual is not None and abs(self.actual - self.stated.value) <= allowed


@dataclass(frozen=True)
class CountedWeights:
    """What of the weights could not be counted, and whether the file says that it may be so."""

    not_counted: tuple[str, ...]
    allowed: bool

    @property
    def name(self) -> str:
        """What the finding is called."""
        return "weights"

    @property
    def holds(self) -> bool:
        """Whether everything is counted, or need not be."""
        return self.allowed or not self.not_counted


Expectation = Fit | Bound | StatedFigure | CountedWeights
Place = tuple[str | int, ...]


def expectations(deployment: Deployment, plan: Plan) -> Iterator[tuple[Place, Expectation]]:
    """Each expectation with its place in the deployment."""
    expect = deployment.expect
    yield ("expect", "fits"), Fit(plan.fits, expected=expect.fits is not False)
    if plan.not_counted:
        allowed = deployment.allow_uncounted or deployment.overhead is not None
        yield ("model",), CountedWeights(plan.not_counted, allowed)
    for bound in _bounds(deployment, plan):
        yield ("expect", bound.name), bound
    if expect.stated:
        actual = figures(plan)
        for index, stated in enumerate(expect.stated):
            yield ("expect", "stated", index), StatedFigure(stated, actual[stated.figure])


def _bounds(deployment: Deployment, plan: Plan) -> Iterator[Bound]:
    expect, budget = deployment.expect, plan.budget
    headroom_percent = 100 * budget.free_bytes / budget.memory_bytes
    bytes_per_token = float(plan.one_copy.bytes_per_token)
    for name, expected, actual, at_least in (
        ("min_sequences", expect.min_sequences, plan.max_sequences, True),
        ("min_context", expect.min_context, plan.max_context_tokens, True),
        ("max_gpus", expect.max_gpus, plan.layout.gpus, False),
        ("max_bytes_per_token", expect.max_bytes_per_token, bytes_per_token, False),
        ("min_headroom_percent", expect.min_headroom_percent, headroom_percent, True),
    ):
        if expected is not None:
            yield Bound(name, expected, actual, at_least)


def figures(plan: Plan) -> dict[str, Number | None]:
    """The figures of a plan that can be stated, and that a baseline keeps."""
    budget, one_copy = plan.budget, plan.one_copy
    return {
        "bytes_per_token": json_number(one_copy.bytes_per_token),
        "fixed_bytes_per_sequence": one_copy.fixed_bytes_per_sequence,
        "kv_bytes": budget.kv_bytes,
        "weights_bytes": budget.weights_bytes,
        "kv_available_bytes": max(0, budget.room_bytes),
        "gpus": plan.layout.gpus,
        "max_context_tokens": plan.max_context_tokens,
        "max_sequences": plan.max_sequences,
    }
