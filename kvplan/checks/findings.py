"""Every expectation of some files as a finding, and every figure that drifted from a baseline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from kvplan.checks.baseline import Change, Drift, Lock, changes, drifts, entry, key_of
from kvplan.checks.check_file import CheckFile, read_deployments
from kvplan.checks.deciding import Lines
from kvplan.checks.deployments import Deployment
from kvplan.checks.expectations import Expectation, expectations, figures
from kvplan.checks.file_patterns import matching_files
from kvplan.errors import DOES_NOT_FIT, KvplanError, SpecError
from kvplan.planner.plan import Plan
from kvplan.planner.solve import solve
from kvplan.registry.names import load

Status = Literal["passed", "failed", "error"]
Membership = Literal["not in the baseline", "not in the file"]
"""A deployment that a baseline or the file lacks."""


@dataclass(frozen=True)
class Finding:
    """One expectation of one deployment, or its drift from the baseline, and what came of it.

    ``fact`` is what a view puts in words; a KvplanError where the question could not be asked.
    ``line`` is the one that decides. What ``changed`` since the baseline is told once, by the
    first finding of a deployment that does not pass.
    ``exit_code`` is 0 where it holds, 1 where it does not, 2 or 3 where it could not be asked.
    """

    file: str
    line: int
    deployment: str
    check: str
    fact: Expectation | tuple[Drift, ...] | Membership | KvplanError
    exit_code: int
    plan: Plan | None = None
    changed: tuple[Change, ...] = ()

    @property
    def status(self) -> Status:
        """Passed, failed, or an error where the question could not be asked."""
        if self.exit_code > DOES_NOT_FIT:
            return "error"
        return "failed" if self.exit_code else "passed"


@dataclass(frozen=True)
class Findings:
    """All findings of a run, and its plans by ``file#name``."""

    findings: tuple[Finding, ...]
    plans: dict[str, tuple[Deployment, Plan]]
    files: tuple[Path, ...] = ()
    """The files that were read, patterns expanded."""

    @property
    def exit_code(self) -> int:
        """The worst of all findings."""
        return max((finding.exit_code for finding in self.findings), default=0)

    def lock(self) -> Lock:
        """The lock that these plans make."""
        return {name: _entry(*planned) for name, planned in self.plans.items()}

    @property
    def understood(self) -> bool:
        """Whether every deployment could be planned at all."""
        return all(finding.status != "error" for finding in self.findings)


def check(
    paths: Sequence[str | Path], locked: Lock | None = None, lock_folder: Path = Path()
) -> Findings:
    """Every expectation of these files, and with a lock every figure that drifted from it.

    Texts may be patterns (see matching_files). One that no file matches, a file that cannot be
    understood and a model that is refused are findings as well, so that the others are still told.
    Deployments are named in the lock by their file, seen from its folder.
    """
    load_once = cache(load)  # for this run alone: a spec may be another one in the next
    findings: list[Finding] = []
    plans: dict[str, tuple[Deployment, Plan]] = {}
    files: list[Path] = []
    for path, problem in matching_files(paths):
        if problem is not None:
            findings += _unreadable(path, problem)
            continue
        files.append(path)
        try:
            file = read_deployments(path)
        except SpecError as error:
            findings += _unreadable(path, error)
            continue
        for index, deployment in enumerate(file.deployments):
            try:
                model = load_once(deployment.model, deployment.assume, path.parent)
                plan = solve(model, deployment.question(model, path.parent))
            except KvplanError as error:
                findings.append(_unanswered(file, index, error))
                continue
            key = key_of(path, lock_folder, deployment.name)
            plans[key] = deployment, plan
            findings += _of_plan(file, index, plan, None if locked is None else (locked, key))
        if locked is not None:
            findings += _gone(file, lock_folder, locked)
    return Findings(tuple(findings), plans, tuple(files))


def _unreadable(path: Path, error: SpecError) -> Iterator[Finding]:
    """A finding for each problem of a file, on the problem's own line."""
    for problem in error.problems:
        place, _, rest = problem.removeprefix(f"{path}:").partition(":")
        line = int(place) if place.isdigit() else 1
        message = rest.strip() if place.isdigit() else problem.removeprefix(f"{path}: ")
        yield Finding(str(path), line, "", "file", SpecError(message), error.exit_code)


def _unanswered(file: CheckFile, index: int, error: KvplanError) -> Finding:
    line, name = Lines(file, index).of_error(str(error)), file.deployments[index].name
    return Finding(str(file.path), line, name, "plan", error, error.exit_code)


def _of_plan(
    file: CheckFile, index: int, plan: Plan, baseline: tuple[Lock, str] | None
) -> Iterator[Finding]:
    """What came of each expectation, then of the baseline: a lock and the deployment's key in it.

    What fails stands on the line that changed, where one is known.
    """
    deployment, lines = file.deployments[index], Lines(file, index)
    old = baseline and baseline[0].get(baseline[1])
    new = _entry(deployment, plan)
    changed = changes(old, new) if old else ()
    line_of_change = lines.of_changes(changed)
    drifted = tuple(_untold(drift, changed) for drift in drifts(old, new)) if old else ()
    facts: list[tuple[str, Expectation | tuple[Drift, ...] | Membership, int, bool]] = [
        (fact.name, fact, lines.of_expectation(place, fact, plan), fact.holds)
        for place, fact in expectations(deployment, plan)
    ]
    if baseline and not old:
        facts.append(("baseline", "not in the baseline", lines.name, False))
    if drifted:
        facts.append(("baseline", drifted, lines.own(_source(drifted[0].cause)), False))
    for name, fact, line, holds in facts:
        where, code = (line, 0) if holds else (line_of_change or line, DOES_NOT_FIT)
        told = () if holds else changed
        yield Finding(str(file.path), where, deployment.name, name, fact, code, plan, told)
        changed = changed if holds else ()


def _untold(drift: Drift, changed: tuple[Change, ...]) -> Drift:
    """The drift without a cause that the keys which changed say better."""
    causes = (cause for cause in drift.cause.split(", ") if cause != "deployment changed")
    return replace(drift, cause=", ".join(causes)) if changed else drift


def _source(cause: str) -> tuple[str, ...]:
    """The key behind which that stands which changed, where no key did."""
    sources = {"spec": "model", "GPU": "gpu", "draft model": "draft_model"}
    return tuple(key for what, key in sources.items() if f"{what} changed" in cause)


def _gone(file: CheckFile, lock_folder: Path, locked: Lock) -> Iterator[Finding]:
    """What the baseline has of this file, and the file no more."""
    prefix = key_of(file.path, lock_folder, "")
    names = {f"{prefix}{deployment.name}" for deployment in file.deployments}
    line = file.document.line(("deployments",))
    for key in locked:
        if key.startswith(prefix) and key not in names:
            path, name = str(file.path), key.removeprefix(prefix)
            yield Finding(path, line, name, "baseline", "not in the file", DOES_NOT_FIT)


def _entry(deployment: Deployment, plan: Plan) -> dict[str, Any]:
    drafter = plan.drafter.spec if plan.drafter else None
    return entry(deployment, plan.spec, plan.gpu, figures(plan), drafter)
