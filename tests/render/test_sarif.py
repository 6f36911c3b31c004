"""SARIF, read back as JSON and held to what SARIF 2.1.0 requires.

Required properties are those of the standard's own schema (OASIS, errata 01): of a log version and
runs, of a run its tool, of a tool its driver, of a driver its name, of a rule its id, of a result
its message. The grammar of messages is section 3.11.5 (placeholders) and 3.11.6 (links).
"""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import example, given

from kvplan.render.sarif import render, uri
from kvplan.report import Report
from kvplan.units import visible
from tests.render.hostile import report, texts
from tests.render.runner import commands


def run_of(content: str) -> dict[str, Any]:
    log = json.loads(content)
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    assert run["tool"]["driver"]["name"] == "kvplan"
    return dict(run)


def read(text: str) -> str:
    """A message as a viewer shows it: escapes, then doubled braces."""
    return re.sub(r"\\([\\\[\]])", r"\1", text.replace("{{", "{").replace("}}", "}"))


@given(texts(), texts())
@example("[a](1) {0} \\[x](http://e)", "a\\")
@example("##[error]x", "\ud800")
def test_a_result_a_finding_and_nothing_in_it_is_a_link(one: str, other: str) -> None:
    content = render(report(one, other))
    assert content.isascii()
    assert commands(content) == []
    run = run_of(content)
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert len(set(rules)) == len(rules)
    for result, name in zip(run["results"], (one, other), strict=True):
        assert rules[result["ruleIndex"]] == result["ruleId"]
        assert (result["kind"], result["level"]) == ("fail", "error")
        text = result["message"]["text"]
        assert not re.search(r"(?<!\\)(\\\\)*\[", text)
        assert not re.search(r"(?<!\{)(\{\{)*\{(?!\{)", text)
        shown = visible(name)
        assert read(text) == (f"{shown}: {shown}" if name else "")
        (location,) = result["locations"]
        assert location["physicalLocation"]["region"] == {"startLine": 3}


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("deploy/[prod].yaml", "deploy/%5Bprod%5D.yaml"),
        ("a:b c%.yaml", "a%3Ab%20c%25.yaml"),
        ("/srv/ü.yaml", "file:///srv/%C3%BC.yaml"),
        ("latin\udcfc.yaml", "latin%FC.yaml"),
    ],
)
def test_a_file_is_a_reference(file: str, expected: str) -> None:
    assert uri(file) == expected


@given(texts())
def test_no_name_is_a_scheme_or_a_host(name: str) -> None:
    reference = uri(f"x{name}")
    split = urlsplit(reference)
    assert (split.scheme, split.netloc, split.query, split.fragment) == ("", "", "", "")
    plain = f"x{name}".encode("utf-8", "replace").decode()
    if plain == f"x{name}":
        assert unquote(reference) == plain


def test_a_fingerprint_outlives_a_moved_line_and_another_figure() -> None:
    before = report("a")
    moved = {**before.records[0], "line": 99, "message": "other figures"}
    after = Report("check", {}, {}, [moved], ())
    renamed = Report("check", {}, {}, [{**moved, "deployment": "b"}], ())
    prints = [
        run_of(render(each))["results"][0]["partialFingerprints"]["kvplanCheck/v1"]
        for each in (before, after, renamed)
    ]
    assert prints[0] == prints[1] != prints[2]


def test_what_passed_is_no_result_and_warnings_are_told() -> None:
    record = {**report("a").records[0], "status": "passed"}
    run = run_of(render(Report("check", {}, {}, [record], (), warnings=("w [x](y)",))))
    assert run["results"] == []
    (invocation,) = run["invocations"]
    assert invocation["exitCode"] == 0
    (told,) = invocation["toolExecutionNotifications"]
    assert told == {"level": "warning", "message": {"text": r"w \[x\](y)"}}
