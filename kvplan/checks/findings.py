"""Every expectation of some files as a finding, and every figure that drifted from a baseline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from kvplan.checks.baseline import Drift, Lock, drifts, entry, key_of
from kvplan.checks.check_file import CheckFile, read_deployments
from kvplan.checks.deployments import Deployment
from kvplan.checks.expectations import Expectation, expectations, figures
from kvplan.checks.file_patterns import matching_files
from kvplan.errors import DOES_NOT_FIT, KvplanError, SpecError
from kvplan.planner.solve import Plan, solve
from kvplan.registry.names import load

Status = Literal["passed", "failed", "error"]
Membership = Literal["not in the baseline", "not in the file"]
"""A deployment that a baseline or the file lacks."""


@dataclass(frozen=True)
class Finding:
    """One expectation of one deployment, or a drift from its baseline, and what came of it.

    ``fact`` is what a view puts in words; a KvplanError where the question could not be asked.
    ``exit_code`` is 0 where it holds, 1 where it does not, 2 or 3 where it could not be asked.
    """

    file: str
    line: int
    deployment: str
    check: str
    fact: Expectation | Drift | Membership | KvplanError
    exit_code: int
    plan: Plan | None = None

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
            findings += _expected(file, index, plan)
            plans[key_of(path, lock_folder, deployment.name)] = deployment, plan
        if locked is not None:
            findings += _drifted(file, lock_folder, locked, plans)
    return Findings(tuple(findings), plans, tuple(files))


def _unreadable(path: Path, error: SpecError) -> Iterator[Finding]:
    """A finding for each problem of a file, on the problem's own line."""
    for problem in error.problems:
        place, _, rest = problem.removeprefix(f"{path}:").partition(":")
        line = int(place) if place.isdigit() else 1
        message = rest.strip() if place.isdigit() else problem.removeprefix(f"{path}: ")
        yield Finding(str(path), line, "", "file", SpecError(message), error.exit_code)


def _unanswered(file: CheckFile, index: int, error: KvplanError) -> Finding:
    line, name = file.line(index, "model"), file.deployments[index].name
    return Finding(str(file.path), line, name, "plan", error, error.exit_code)


def _expected(file: CheckFile, index: int, plan: Plan) -> Iterator[Finding]:
    deployment = file.deployments[index]
    for place, expectation in expectations(deployment, plan):
        code = 0 if expectation.holds else DOES_NOT_FIT
        line, name = file.line(index, *place), expectation.name
        yield Finding(str(file.path), line, deployment.name, name, expectation, code, plan)


def _entry(deployment: Deployment, plan: Plan) -> dict[str, Any]:
    drafter = plan.drafter.spec if plan.drafter else None
    return entry(deployment, plan.spec, plan.gpu, figures(plan), drafter)


def _drifted(
    file: CheckFile,
    lock_folder: Path,
    locked: Lock,
    plans: dict[str, tuple[Deployment, Plan]],
) -> Iterator[Finding]:
    path, code = str(file.path), DOES_NOT_FIT
    for index, deployment in enumerate(file.deployments):
        key = key_of(file.path, lock_folder, deployment.name)
        line = file.line(index, "name")
        if key not in plans:
            continue
        if key not in locked:
            yield Finding(path, line, deployment.name, "baseline", "not in the baseline", code)
            continue
        for drift in drifts(locked[key], _entry(*plans[key])):
            yield Finding(path, line, deployment.name, f"baseline {drift.figure}", drift, code)
    names = {key_of(file.path, lock_folder, deployment.name) for deployment in file.deployments}
    prefix = key_of(file.path, lock_folder, "")
    for key in locked:
        if key.startswith(prefix) and key not in names:
            yield Finding(path, 1, key.removeprefix(prefix), "baseline", "not in the file", code)
