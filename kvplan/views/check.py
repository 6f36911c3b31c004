"""What ``kvplan check`` answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from kvplan.checks.baseline import Drift
from kvplan.checks.deployments import Deployment
from kvplan.checks.expectations import Bound, CountedWeights, Fit, Number, StatedFigure
from kvplan.checks.findings import Finding, Findings
from kvplan.errors import KvplanError
from kvplan.planner.solve import Plan
from kvplan.report import NOTHING, Field, Note, Report, records, table
from kvplan.units import gib, plural
from kvplan.views.beside import gpu_caveats, question_notes
from kvplan.views.class_defaults import plan_class_defaults
from kvplan.views.notes import estimates
from kvplan.views.verdict import remedy, shortfall
from kvplan.views.words import caveats, gpus_in_words

_RESULTS = {"passed": "ok", "failed": "FAILED", "error": "ERROR"}
_MEMBERSHIP = {
    "not in the baseline": "not in the baseline; --update-baseline takes it in",
    "not in the file": "in the baseline, no longer in the file; --update-baseline drops it",
}


def check_report(result: Findings, baseline: Path | None) -> Report:
    """The answer of ``kvplan check``; the exit code is the worst of all findings."""
    findings = records(_FIELDS, result.findings)
    statuses = Counter[str](finding.status for finding in result.findings)
    summary = {status: statuses[status] for status in _RESULTS}
    plans = {name: plan for name, (_, plan) in result.plans.items()}
    return Report(
        command="check",
        inputs={
            "files": [str(path) for path in result.files],
            "baseline": None if baseline is None else str(baseline),
        },
        payload={"summary": summary, "findings": findings},
        records=findings,
        tables=(table(_title(summary), _FIELDS, result.findings),),
        warnings=tuple(
            f"{name}: {text}"
            for name, (deployment, plan) in result.plans.items()
            for text in (
                *_deployment_caveats(deployment, plan),
                *gpu_caveats(plan.question),
                *caveats(plan),
            )
        ),
        notes=(
            *_name_notes(plans),
            *estimates(plans.values()),
            *plan_class_defaults(plans.values()),
        ),
        exit_code=result.exit_code,
    )


def _name_notes(plans: Mapping[str, Plan]) -> Iterator[Note]:
    """How each deployment's names were read, where they are not the catalogue's own."""
    for name, plan in plans.items():
        for note in question_notes(plan.question):
            yield Note("", f"{name}: {note.text}")


def _deployment_caveats(deployment: Deployment, plan: Plan) -> Iterator[str]:
    if not deployment.bounds_gpus:
        yield (
            f"without gpus, a layout or max_gpus it passes on any number of GPUs; today on "
            f"{plan.layout.gpus}"
        )
    if deployment.data_parallel_size is not None and plan.spec.has_routed_experts:
        yield (
            "data_parallel_size has vLLM's meaning now: ranks that share the routed experts; "
            "independent copies are replicas"
        )


def _title(summary: dict[str, int]) -> str:
    count = sum(summary.values())
    told = (
        plural(number, status) if status == "error" else f"{number:,} {status}"
        for status, number in summary.items()
        if number
    )
    parts = ", ".join(told)
    return f"{plural(count, 'check')}: {parts}" if count else "nothing to check"


def message(finding: Finding) -> str:
    """What came of it, in a sentence."""
    fact = finding.fact
    match fact:
        case KvplanError():
            return f"{fact.message}: {fact.hint}" if fact.hint else fact.message
        case Drift():
            return _drift(fact)
        case CountedWeights():
            parts = ", ".join(fact.not_counted)
            allowed = "" if fact.allowed else "; give overhead, or allow_uncounted: true"
            return f"weights leave out what could not be counted: {parts}{allowed}"
        case str():
            return _MEMBERSHIP[fact]
    if finding.plan is None:
        raise ValueError("an expectation is held against a plan")
    if isinstance(fact, Fit):
        return _fit(fact, finding.plan)
    return _figure(fact, finding.plan)


def _fit(fact: Fit, plan: Plan) -> str:
    if not plan.fits:
        return shortfall(plan)
    return _state(plan) if fact.holds else f"fits, although it should not: {_state(plan)}"


def _figure(fact: Bound | StatedFigure, plan: Plan) -> str:
    if isinstance(fact, Bound):
        word = "at least" if fact.at_least else "at most"
        text = f"{_shown(fact.actual)}, {word} {_shown(fact.expected)} expected"
    else:
        stated = fact.stated
        tolerance = f" ± {stated.tolerance_percent:g}%" if stated.tolerance_percent else ""
        text = f"{_shown(fact.actual)}, {stated.value:,}{tolerance} stated"
    if fact.holds:
        return text
    return f"{text}; {_state(plan) if plan.fits else remedy(plan)}"


def _state(plan: Plan) -> str:
    return (
        f"{gpus_in_words(plan)}, {plan.sequences:,} × {plan.context_tokens:,} tokens, "
        f"{gib(max(0, plan.budget.free_bytes))} of a GPU free"
    )


def _shown(value: Number | None) -> str:
    if value is None:
        return "not bounded"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"


def _drift(drift: Drift) -> str:
    if drift.figure == "gpus" and drift.before is not None and drift.after is not None:
        more = "more" if drift.after > drift.before else "fewer"
        difference = plural(int(abs(drift.after - drift.before)), "GPU")
        return f"{difference} {more} than before: {_change(drift)} ({drift.cause})"
    return f"{drift.figure}: {_change(drift)} ({drift.cause})"


def _change(drift: Drift) -> str:
    before, after = (
        f"{value:,}" if isinstance(value, int | float) else "none"
        for value in (drift.before, drift.after)
    )
    return f"{before} became {after}"


def _why(finding: Finding) -> str:
    if finding.status == "passed":
        return message(finding)
    return f"{finding.file}:{finding.line}: {message(finding)}"


_FIELDS: tuple[Field[Finding], ...] = (
    Field("file", lambda finding: finding.file),
    Field("line", lambda finding: finding.line),
    Field(
        "deployment",
        lambda finding: finding.deployment,
        "Deployment",
        lambda finding: finding.deployment or NOTHING,
        "left",
    ),
    Field("check", lambda finding: finding.check, "Check", align="left"),
    Field(
        "status",
        lambda finding: finding.status,
        "Result",
        lambda finding: _RESULTS[finding.status],
        "left",
    ),
    Field("message", message, "Why", _why, "left"),
    Field("exit_code", lambda finding: finding.exit_code),
)
