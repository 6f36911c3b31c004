"""``kvplan check``."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kvplan.cli.options import Json, Screen
from kvplan.cli.output import answer, complain, tell, warn
from kvplan.cli.values import OUTPUT, argument, choice, option
from kvplan.errors import UsageError
from kvplan.report import Report

UPDATE = (
    "Write the lock file instead: what it has of these files is replaced, that of others stays."
)

_NAMED = 3


class CheckOutput(StrEnum):
    """What ``--format`` takes."""

    TABLE = "table"
    JSON = "json"
    MARKDOWN = "markdown"
    CSV = "csv"
    JUNIT = "junit"
    GITHUB = "github"
    SARIF = "sarif"


Files = Annotated[
    list[str],
    argument(
        "FILE...",
        "Deployments and what they have to do, or patterns of them: * and ? stand for "
        "characters of one name, [...] for one of a set (where no file has that very name), ** for "
        "any number of folders, none of them for a leading dot.",
    ),
]
JUnit = Annotated[
    str | None,
    option(
        "--junit", metavar="FILE", panel=OUTPUT, help_="Write JUnit XML into this file as well."
    ),
]
Sarif = Annotated[
    str | None,
    option(
        "--sarif", metavar="FILE", panel=OUTPUT, help_="Write SARIF 2.1.0 into this file as well."
    ),
]
Baseline = Annotated[
    str | None,
    option("--baseline", metavar="LOCK", help_="Any figure that is not in this lock file fails."),
]
Format = Annotated[
    CheckOutput,
    choice(
        "--format",
        metavar="FORMAT",
        among=CheckOutput,
        panel=OUTPUT,
        help_="How to print the findings",
    ),
]
Every = Annotated[
    bool,
    typer.Option(
        "--all", rich_help_panel=OUTPUT, help="List what passed as well, after what did not."
    ),
]


def check(
    files: Files,
    baseline: Baseline = None,
    update_baseline: Annotated[bool, typer.Option("--update-baseline", help=UPDATE)] = False,
    junit: JUnit = None,
    sarif: Sarif = None,
    output: Format = CheckOutput.TABLE,
    json: Json = False,
    every: Every = False,
    screen: Screen = Screen(),
) -> None:
    """Hold deployments against what is expected of them, as in CI.

    With --baseline, every figure that is not the lock file's fails as well.

    Examples:
        # Does every deployment still fit?
        kvplan check deploy.yaml
        # Has any figure changed since the lock file was written?
        kvplan check deploy.yaml --baseline plan.lock.json
    """
    from kvplan.checks import findings
    from kvplan.checks.baseline import read_lock, update_lock
    from kvplan.views.check import check_report

    if update_baseline and baseline is None:
        raise UsageError("--update-baseline of which file?", "--baseline plan.lock.json")
    lock = None if baseline is None else Path(baseline)
    locked = read_lock(lock) if lock and not update_baseline else None
    result = findings.check(files, locked, lock.parent if lock else Path())
    if lock and update_baseline and result.understood:
        kept = update_lock(lock, result.lock(), result.files, lock.parent)
        _tell_kept(lock, kept)
    elif update_baseline:
        warn([f"{baseline}: not written, as not every deployment is understood"])
    report = check_report(result, lock, every=every)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        _tell_github(report, annotate=output is not CheckOutput.GITHUB)
    _write_beside(report, {"junit": junit, "sarif": sarif})
    answer(report, "json" if json else output.value, screen)


def _write_beside(report: Report, files: dict[str, str | None]) -> None:
    """The findings in files of these formats as well. Raises UsageError for one that cannot be."""
    from kvplan.files import write_whole
    from kvplan.render import render

    for form, file in files.items():
        if file is not None:
            write_whole(file, render(report, form))


def _tell_kept(lock: Path, files: list[str]) -> None:
    """Whose entries the lock still has, as a file may be gone for good."""
    if files:
        more = f" and {len(files) - _NAMED} more" if len(files) > _NAMED else ""
        names = f"{', '.join(files[:_NAMED])}{more}"
        complain(f"note: {lock} keeps what it has of files that were not given: {names}")


def _tell_github(report: Report, *, annotate: bool) -> None:
    """Annotations, on stderr so that stdout is the answer alone, and the job's summary.

    A summary that cannot be written is no reason to lose the answer.
    """
    from kvplan.files import append
    from kvplan.render import github

    if annotate:
        tell(github.render(report))
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        try:
            append(Path(summary), github.summary(report))
        except UsageError as error:
            warn([error.message])
