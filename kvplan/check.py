"""Expectations held against plans, and plans against a baseline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

from kvplan.calc import footprint
from kvplan.deployments import CheckFile, Deployment, Stated, read_deployments
from kvplan.errors import DOES_NOT_FIT, KvplanError, SpecError, UsageError
from kvplan.lock import Lock, drifts, entry, key_of
from kvplan.parallel import Layout
from kvplan.planning import NothingFitsError, Plan, Question, Settings, solved
from kvplan.registry import load, load_gpu, model_files
from kvplan.spec import ModelSpec
from kvplan.units import gib, json_number

Status = Literal["passed", "failed", "error"]
Number = int | float


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


class _Bound(NamedTuple):
    name: str
    expected: Number
    found: Number | None
    at_least: bool

    def holds(self) -> bool:
        """``None`` is found where there is no bound: as many as one likes."""
        if self.found is None:
            return True
        return self.found >= self.expected if self.at_least else self.found <= self.expected


def check(paths: list[Path], locked: Lock | None = None, lock_folder: Path = Path()) -> Checked:
    """Every expectation of these files, and with a lock every figure that drifted from it.

    A file that cannot be understood and a model that is refused are findings as well, so that the
    others are still told. Deployments are named in the lock by their file, seen from its folder.
    """
    findings: list[Finding] = []
    plans: dict[str, tuple[Deployment, Plan]] = {}
    for path in paths:
        try:
            file = read_deployments(path)
        except SpecError as error:
            findings += _unreadable(path, error)
            continue
        for index, deployment in enumerate(file.deployments):
            finding, found = _planned(file, index)
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


def _planned(file: CheckFile, index: int) -> tuple[Finding | None, Plan | None]:
    """The plan of a deployment, or what is to be said where there is none."""
    deployment = file.deployments[index]
    finding = partial(Finding, str(file.path), deployment=deployment.name)
    try:
        return None, plan_of(deployment, file.path)
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
    for name, place, holds, message in _expectations(deployment, found):
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


def plan_of(deployment: Deployment, beside: Path) -> Plan:
    """The plan of a deployment; its model may be a path relative to the file it stands in.

    Raises what ``planning.solved`` and ``registry.load`` raise.
    """
    degrees = (
        deployment.tensor_parallel_size,
        deployment.pipeline_parallel_size,
        deployment.data_parallel_size,
        deployment.data_parallel_attention,
        deployment.decode_context_parallel_size,
    )
    tp, pp, dp, dpa, dcp = (degree or 1 for degree in degrees)
    where = None
    if any(degrees):
        where = Layout(tp, pp, dp, dpa, dcp, expert_parallel=deployment.enable_expert_parallel)
        if deployment.gpus not in (None, where.gpus):
            raise UsageError(f"gpus is {deployment.gpus}, but {where.name} has {where.gpus}")
    elif deployment.enable_expert_parallel:
        raise UsageError("enable_expert_parallel needs a layout", "give tensor_parallel_size too")
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
    return solved(_model(deployment.model, beside), load_gpu(deployment.gpu), asked, settings)


@cache
def _model(name: str, beside: Path) -> ModelSpec:
    relative = beside.parent / name
    if name.lower() not in model_files() and relative.exists():
        return load(relative if relative.is_file() else str(relative))
    return load(name)


def _told(found: Plan) -> str:
    sequences, context = found.work.sequences, found.work.context_tokens
    return (
        f"{found.layout.gpus} × {found.gpu.name} ({found.layout.name}), "
        f"{sequences:,} × {context:,} tokens, {gib(max(0, found.budget.free_bytes))} of a GPU free"
    )


def _expectations(
    deployment: Deployment, found: Plan
) -> Iterator[tuple[str, tuple[str | int, ...], bool, str]]:
    """Each expectation's name, its place in the file, whether it holds, and what was found."""
    expect = deployment.expect
    holds = found.fits == (expect.fits is not False)
    yield "fits", ("expect", "fits"), holds, _fits(found, holds=holds)
    for bound in _bounds(deployment, found):
        yield bound.name, ("expect", bound.name), bound.holds(), _measured(bound, found)
    for index, stated in enumerate(expect.stated):
        holds, message = _compared(stated, found)
        yield f"stated {stated.figure}", ("expect", "stated", index), holds, message


def _fits(found: Plan, *, holds: bool) -> str:
    if found.fits:
        return _told(found) if holds else f"fits, although it should not: {_told(found)}"
    budget = found.budget
    return (
        f"does not fit: caches need {gib(budget.cache.total_bytes)} on each of "
        f"{found.layout.gpus} × {found.gpu.name} ({found.layout.name}) and have "
        f"{gib(max(0, budget.room_bytes))}; {_remedy(found)}"
    )


def _remedy(found: Plan) -> str:
    work, fitting = found.work, []
    if found.max_sequences:
        fitting.append(f"sequences: {found.max_sequences}")
    if found.max_context_tokens:
        fitting.append(f"context: {found.max_context_tokens}")
    if fitting:
        asked = f"{work.sequences:,} × {work.context_tokens:,} tokens"
        half = " or kv_cache_dtype: fp8" if _is_16_bit(found) else ""
        return f"instead of {asked} it holds {' or '.join(fitting)}; or take more GPUs{half}"
    return "no cache fits at all: take more or larger GPUs"


def _is_16_bit(found: Plan) -> bool:
    return found.budget.cache.kv_cache_dtype in ("bfloat16", "float16")


def _bounds(deployment: Deployment, found: Plan) -> Iterator[_Bound]:
    expect, budget = deployment.expect, found.budget
    headroom = 100 * budget.free_bytes / budget.memory_bytes
    whole = float(_whole(found).bytes_per_token)
    for bound in (
        ("min_sequences", expect.min_sequences, found.max_sequences, True),
        ("min_context", expect.min_context, found.max_context_tokens, True),
        ("max_gpus", expect.max_gpus, found.layout.gpus, False),
        ("max_bytes_per_token", expect.max_bytes_per_token, whole, False),
        ("min_headroom_percent", expect.min_headroom_percent, headroom, True),
    ):
        name, expected, actual, at_least = bound
        if expected is not None:
            yield _Bound(name, expected, actual, at_least)


def _measured(bound: _Bound, found: Plan) -> str:
    word = "at least" if bound.at_least else "at most"
    told = f"{shown(bound.found)}, {word} {shown(bound.expected)} expected"
    if bound.holds():
        return told
    return f"{told}; {_told(found) if found.fits else _remedy(found)}"


def shown(value: Number | None) -> str:
    """A figure as people read it."""
    if value is None:
        return "no bound"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"


def _whole(found: Plan) -> Any:
    """The footprint of one copy of the whole model, as ``compare`` tells it."""
    dtype = found.budget.cache.kv_cache_dtype
    return footprint(found.spec, 1, 1, dtype, draft=found.work.draft)


def figures(found: Plan) -> dict[str, Number | None]:
    """The figures of a plan that can be stated, and that a baseline keeps."""
    budget, whole = found.budget, _whole(found)
    return {
        "bytes_per_token": json_number(whole.bytes_per_token),
        "fixed_bytes_per_sequence": whole.fixed_bytes_per_sequence,
        "kv_bytes": budget.cache.total_bytes,
        "weights_bytes": budget.weights_bytes,
        "kv_available_bytes": max(0, budget.room_bytes),
        "gpus": found.layout.gpus,
        "max_context_tokens": found.max_context_tokens,
        "max_sequences": found.max_sequences,
    }


def _compared(stated: Stated, found: Plan) -> tuple[bool, str]:
    actual = figures(found)[stated.figure]
    allowed = stated.value * stated.tolerance_percent / 100
    tolerance = f" ± {stated.tolerance_percent:g}%" if stated.tolerance_percent else ""
    holds = actual is not None and abs(actual - stated.value) <= allowed
    told = f"{shown(actual)}, {stated.value:,}{tolerance} stated"
    return holds, told if holds else f"{told}; {_told(found)}"
