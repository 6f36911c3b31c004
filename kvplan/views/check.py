"""What ``kvplan check`` answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from kvplan.checks.baseline import Drift
from kvplan.checks.deployments import Deployment
from kvplan.checks.expectations import Bound, CountedWeights, Fit, Number, StatedFigure
from kvplan.checks.findings import Finding, Findings
from kvplan.errors import KvplanError
from kvplan.planner.plan import Plan
from kvplan.report import NOTHING, Answer, Field, Note, Report, Tone, records, table
from kvplan.units import gib, plural
from kvplan.views.beside import gpu_caveats, question_notes
from kvplan.views.changes import change_in_words, factor_in_words, figure_in_words, in_words
from kvplan.views.class_defaults import plan_class_defaults
from kvplan.views.notes import estimates
from kvplan.views.verdict import more_room, problem, shortfall
from kvplan.views.words import by_text, caveats, gpus_in_words

_RESULTS = {"passed": "ok", "failed": "FAILED", "error": "ERROR"}
_TONES: dict[str, Tone] = {"passed": "good", "failed": "bad", "error": "unknown"}
_FIRST = {"error": 0, "failed": 1, "passed": 2}
_MEMBERSHIP = {
    "not in the baseline": "not in the baseline; --update-baseline takes it in",
    "not in the file": "in the baseline, no longer in the file; --update-baseline drops it",
}


def check_report(result: Findings, baseline: Path | None, *, every: bool = False) -> Report:
    """The answer of ``kvplan check``; the exit code is the worst of all findings.

    People read errors, then failures; what passed is counted, or listed with ``every``.
    """
    findings = records(_FIELDS, result.findings)
    statuses = Counter[str](finding.status for finding in result.findings)
    summary = {status: statuses[status] for status in _RESULTS}
    listed = [each for each in result.findings if every or each.status != "passed"]
    listed.sort(key=lambda finding: _FIRST[finding.status])
    plans = {name: plan for name, (_, plan) in result.plans.items()}
    return Report(
        command="check",
        inputs={
            "files": [str(path) for path in result.files],
            "baseline": None if baseline is None else str(baseline),
        },
        payload={"summary": summary, "findings": findings},
        records=findings,
        tables=(table("", _fields(listed), listed),) if listed else (),
        answer=_answer(result.findings, summary, every=every),
        warnings=by_text(
            (name, text)
            for name, (deployment, plan) in result.plans.items()
            for text in _warnings(deployment, plan)
        ),
        notes=(
            *_name_notes(plans),
            *estimates(plans.values()),
            *plan_class_defaults(plans.values()),
        ),
        exit_code=result.exit_code,
    )


def _fields(listed: Sequence[Finding]) -> list[Field[Finding]]:
    """The columns; the result is the least of them where it is the same in every row."""
    same = len({finding.status for finding in listed}) == 1
    return [replace(field, yields=same) if field.key == "status" else field for field in _FIELDS]


def _name_notes(plans: Mapping[str, Plan]) -> Iterator[Note]:
    """How each deployment's names were read, where they are not the catalogue's own."""
    for name, plan in plans.items():
        for note in question_notes(plan.question):
            yield Note("", f"{name}: {note.text}")


def _answer(findings: Sequence[Finding], summary: dict[str, int], *, every: bool) -> Answer:
    """How many checks failed, and in how many deployments; errors are named first."""
    passed, failed, errors = (summary[status] for status in ("passed", "failed", "error"))
    checks = plural(passed + failed, "check")
    if not findings:
        return Answer("Nothing to check.", "unknown")
    advice = f"{passed:,} passed; --all shows them." if passed and not every else ""
    failures = f"{failed:,} of {checks} failed in {_deployments(findings)}"
    if errors:
        told = f"{plural(errors, 'error')}, and {failures}" if failed else plural(errors, "error")
        return Answer(f"{told}.", "bad", advice)
    if failed:
        return Answer(f"{failures}.", "bad", advice)
    return Answer(f"All {checks} passed." if passed > 1 else "The one check passed.", "good")


def _deployments(findings: Iterable[Finding]) -> str:
    """Of how many deployments some failed: ``2 of 5 deployments``."""
    names = {(each.file, each.deployment) for each in findings if each.deployment}
    failed = {
        (each.file, each.deployment)
        for each in findings
        if each.deployment and each.status == "failed"
    }
    if len(names) == len(failed) == 1:
        return "the one deployment"
    return f"{len(failed):,} of {plural(len(names), 'deployment')}"


def _warnings(deployment: Deployment, plan: Plan) -> Iterator[str]:
    """What is to be said of a deployment and is no finding of its own."""
    yield from _deployment_caveats(deployment, plan)
    yield from gpu_caveats(plan.question)
    yield from (text for text in caveats(plan) if not text.startswith(_LEFT_OUT))


_LEFT_OUT = "weights leave out what could not be counted"
"""A finding says that already."""


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


def message(finding: Finding) -> str:
    """What came of it, in a sentence: first what changed since the baseline."""
    changed = ", ".join(map(change_in_words, finding.changed))
    return f"{changed}: {_message(finding)}" if changed else _message(finding)


def _message(finding: Finding) -> str:
    fact = finding.fact
    match fact:
        case KvplanError():
            return f"{fact.message.rstrip('.')}: {fact.hint}" if fact.hint else fact.message
        case tuple():
            return _drifted(fact)
        case CountedWeights():
            parts = ", ".join(fact.not_counted)
            allowed = "" if fact.allowed else "; give overhead, or allow_uncounted: true"
            return f"{_LEFT_OUT}: {parts}{allowed}"
        case str():
            return _MEMBERSHIP[fact]
    if finding.plan is None:
        raise ValueError("an expectation is held against a plan")
    if isinstance(fact, Fit):
        return _fit(fact, finding.plan, changed=bool(finding.changed))
    return _figure(fact, finding.plan)


def brief(finding: Finding) -> str:
    """The message for a line of a screen: how much fits, without what it needs and has."""
    if finding.status != "failed":
        return message(finding)
    changed = ", ".join(map(change_in_words, finding.changed))
    return f"{changed}: {_brief(finding)}" if changed else _brief(finding)


def _brief(finding: Finding) -> str:
    fact, plan = finding.fact, finding.plan
    if isinstance(fact, tuple):
        cause = f" ({fact[0].cause})" if fact[0].cause else ""
        return ", ".join(map(_brief_drift, fact)) + cause
    if isinstance(fact, Bound | StatedFigure):
        return _held(fact)
    if plan is None or plan.fits or not isinstance(fact, Fit):
        return _message(finding)
    if plan.budget.fits or not plan.max_sequences:
        return problem(plan)
    return _fitting(plan, shorter=not finding.changed)


def _brief_drift(drift: Drift) -> str:
    """``kv_bytes 50.00 GiB → 100.00 GiB``; bytes where rounding would hide that they changed."""
    pair = [figure_in_words(drift.figure, value) for value in (drift.before, drift.after)]
    if pair[0] == pair[1]:
        pair = [in_words(drift.before), in_words(drift.after)]
    return f"{drift.figure} {' → '.join(pair)}"


def _fit(fact: Fit, plan: Plan, *, changed: bool) -> str:
    if not plan.fits:
        if changed and plan.max_sequences and not plan.budget.fits:
            short = problem(plan).removeprefix("does not fit: ")
            return f"{_fitting(plan)}; {short}; {more_room(plan)}"
        return shortfall(plan)
    return _state(plan) if fact.holds else f"fits, although it should not: {_state(plan)}"


def _fitting(plan: Plan, *, shorter: bool = True) -> str:
    """How much of the load fits: ``11 of 20 sequences fit, or 38,904 tokens for 20 sequences``."""
    load, context_tokens = plural(plan.sequences, "sequence"), plan.max_context_tokens
    verb = "fits" if plan.max_sequences == 1 else "fit"
    also = f", or {context_tokens:,} tokens for {load}" if shorter and context_tokens else ""
    return f"{plan.max_sequences or 0:,} of {load} {verb}{also}"


def _figure(fact: Bound | StatedFigure, plan: Plan) -> str:
    if fact.holds or not plan.fits:  # what would fit, another finding says
        return _held(fact)
    return f"{_held(fact)}; {_state(plan)}"


def _held(fact: Bound | StatedFigure) -> str:
    """A figure beside what it was held against."""
    if isinstance(fact, Bound):
        word = "at least" if fact.at_least else "at most"
        return f"{_shown(fact.actual)}, {word} {_shown(fact.expected)} expected"
    stated = fact.stated
    tolerance = f" ± {stated.tolerance_percent:g}%" if stated.tolerance_percent else ""
    return f"{_shown(fact.actual)}, {stated.value:,}{tolerance} stated"


def _state(plan: Plan) -> str:
    return (
        f"{gpus_in_words(plan)}, {plan.sequences:,} × {plan.context_tokens:,} tokens, "
        f"{gib(max(0, plan.budget.free_bytes))} of a GPU free"
    )


def _shown(value: Number | None) -> str:
    if value is None:
        return "not bounded"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}"


def _drifted(drifts: tuple[Drift, ...]) -> str:
    """Each figure that is another one; why, unless keys that changed are told already."""
    figures, cause = ", ".join(map(_drift, drifts)), drifts[0].cause
    return f"{figures} ({cause})" if cause else figures


def _drift(drift: Drift) -> str:
    """``kv_bytes 1,024 → 2,048 (× 2.00)``; GPUs, which cost money, by how many they are more."""
    before, after = drift.before, drift.after
    change = f"{drift.figure} {in_words(before)} → {in_words(after)}"
    if before is None or after is None:
        return change
    if drift.figure == "gpus":
        more = "more" if after > before else "fewer"
        return f"{change} ({plural(int(abs(after - before)), 'GPU')} {more})"
    return f"{change} ({factor_in_words(before, after)})" if before and after else change


def _where(finding: Finding) -> str:
    return f"{finding.file}:{finding.line}"


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
    Field("", _where, "Where", align="left", rank=2, yields=True),
    Field(
        "check",
        lambda finding: finding.check,
        "Check",
        align="left",
        tone=lambda finding: _TONES[finding.status],
    ),
    Field(
        "status",
        lambda finding: finding.status,
        "Result",
        lambda finding: _RESULTS[finding.status],
        "left",
        1,
        lambda finding: _TONES[finding.status],
    ),
    Field("message", message, "Why", brief, "left"),
    Field("exit_code", lambda finding: finding.exit_code),
)
