"""Expectations held against plans, and plans against a baseline."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

from kvplan.deployments import CheckFile, Deployment, read_deployments
from kvplan.errors import DOES_NOT_FIT, KvplanError, SpecError
from kvplan.expectations import expectations, figures
from kvplan.lock import Lock, drifts, entry, key_of
from kvplan.parallel import written_layout
from kvplan.planning import NothingFitsError, Plan, Question, Settings, solved
from kvplan.registry import load, load_gpu, model_files
from kvplan.spec import Gpu, ModelSpec

Status = Literal["passed", "failed", "error"]
ModelAt = Callable[[str, Path], ModelSpec]


@dataclass(frozen=True)
class Finding:
    """One expectation of one deployment, and what came of it.

    ``exit_code`` is 0 where it holds, 1 where it does not, 2 or 3 where it could not be asked.
    """

    file: str
    line: int
    deployment: str
    check: str
    status: Status
    message: str
    exit_code: int = 0


@dataclass(frozen=True)
class Checked:
    """All findings of a run, and its plans by ``file#name``."""

    findings: tuple[Finding, ...]
    plans: dict[str, tuple[Deployment, Plan]]

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


def check(paths: list[Path], locked: Lock | None = None, lock_folder: Path = Path()) -> Checked:
    """Every expectation of these files, and with a lock every figure that drifted from it.

    A file that cannot be understood and a model that is refused are findings as well, so that the
    others are still told. Deployments are named in the lock by their file, seen from its folder.
    """
    model_at = cache(_model)  # for this run alone: a spec may be another one in the next
    findings: list[Finding] = []
    plans: dict[str, tuple[Deployment, Plan]] = {}
    for path in paths:
        try:
            file = read_deployments(path)
        except SpecError as error:
            findings += _unreadable(path, error)
            continue
        for index, deployment in enumerate(file.deployments):
            finding, found = _planned(file, index, model_at)
            if finding is not None:
                findings.append(finding)
            if found is None:
                continue
            findings += _held(file, index, found)
            plans[key_of(path, lock_folder, deployment.name)] = deployment, found
        if locked is not None:
            findings += _drifted(file, lock_folder, locked, plans)
    return Checked(tuple(findings), plans)


def _unreadable(path: Path, error: SpecError) -> Iterator[Finding]:
    for problem in error.message.split("\n"):
        place, _, rest = problem.removeprefix(f"{path}:").partition(":")
        line = int(place) if place.isdigit() else 1
        message = rest.strip() if place.isdigit() else problem.removeprefix(f"{path}: ")
        yield Finding(str(path), line, "", "file", "error", message, error.exit_code)


def _planned(file: CheckFile, index: int, model_at: ModelAt) -> tuple[Finding | None, Plan | None]:
    """The plan of a deployment, or what is to be said where there is none."""
    deployment = file.deployments[index]
    finding = partial(Finding, str(file.path), deployment=deployment.name)
    try:
        gpu = _gpu(deployment.gpu, file.path)
        return None, _plan(deployment, model_at(deployment.model, file.path), gpu)
    except NothingFitsError as error:
        line, said = file.line(index, "expect", "fits"), _said(error)
        if deployment.expect.fits is False:
            return finding(line, check="fits", status="passed", message=said), None
        code = DOES_NOT_FIT
        return finding(line, check="fits", status="failed", message=said, exit_code=code), None
    except KvplanError as error:
        line, code = file.line(index, "model"), error.exit_code
        said = _said(error)
        return finding(line, check="plan", status="error", message=said, exit_code=code), None


def _held(file: CheckFile, index: int, found: Plan) -> Iterator[Finding]:
    deployment = file.deployments[index]
    for name, place, holds, message in expectations(deployment, found):
        status: Status = "passed" if holds else "failed"
        code = 0 if holds else DOES_NOT_FIT
        line = file.line(index, *place)
        yield Finding(str(file.path), line, deployment.name, name, status, message, code)


def _said(error: KvplanError) -> str:
    return f"{error.message}: {error.hint}" if error.hint else error.message


def _entry(deployment: Deployment, found: Plan) -> dict[str, Any]:
    return entry(deployment, found.spec, found.gpu, figures(found))


def _drifted(
    file: CheckFile,
    lock_folder: Path,
    locked: Lock,
    plans: dict[str, tuple[Deployment, Plan]],
) -> Iterator[Finding]:
    for index, deployment in enumerate(file.deployments):
        key = key_of(file.path, lock_folder, deployment.name)
        line = file.line(index, "name")
        differs = partial(
            Finding, str(file.path), line, deployment.name, status="failed", exit_code=DOES_NOT_FIT
        )
        if key not in plans:
            continue
        if key not in locked:
            yield differs(
                check="baseline", message="not in the baseline; --update-baseline takes it in"
            )
            continue
        for drift in drifts(locked[key], _entry(*plans[key])):
            told = f"{drift.figure}: {drift.told()} ({drift.cause})"
            yield differs(check=f"baseline {drift.figure}", message=told)
    names = {key_of(file.path, lock_folder, each.name) for each in file.deployments}
    prefix = key_of(file.path, lock_folder, "")
    for key in locked:
        if key.startswith(prefix) and key not in names:
            yield Finding(
                str(file.path),
                1,
                key.removeprefix(prefix),
                "baseline",
                "failed",
                "in the baseline, no longer in the file; --update-baseline drops it",
                DOES_NOT_FIT,
            )


def _plan(deployment: Deployment, spec: ModelSpec, gpu: Gpu) -> Plan:
    degrees = (
        deployment.tensor_parallel_size,
        deployment.pipeline_parallel_size,
        deployment.data_parallel_size,
        deployment.data_parallel_attention,
        deployment.decode_context_parallel_size,
    )
    where = written_layout(
        degrees, deployment.gpus, expert_parallel=deployment.enable_expert_parallel
    )
    asked = Question(
        deployment.context,
        deployment.sequences,
        deployment.gpus,
        where,
        deployment.kv_cache_dtype,
        deployment.draft,
    )
    settings = Settings(
        deployment.gpu_memory_utilization, deployment.overhead, deployment.kv_cache_memory_bytes
    )
    return solved(spec, gpu, asked, settings)


def _gpu(name: str, beside: Path) -> Gpu:
    """The GPU of this name, or in this file as seen from the one that names it."""
    relative = beside.parent / name
    return load_gpu(relative if relative.suffix in (".yaml", ".yml") else name)


def _model(name: str, beside: Path) -> ModelSpec:
    """The model of this name, or at this path seen from the file that names it."""
    relative = beside.parent / name
    if name.lower() not in model_files() and relative.exists():
        return load(relative if relative.is_file() else str(relative))
    return load(name)
