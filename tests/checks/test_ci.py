"""What ``kvplan check`` writes for CI: annotations, JUnit, a summary, an action and a hook."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml

from tests.checks.deployments import write
from tests.command_line import Run

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "configs" / "checks" / "example.yaml"


HOSTILE = "we:ird, 100%\r\nname <&\"']]>\x1b[31m\u202e"


def hostile(tmp_path: Path) -> str:
    deployment = {"name": HOSTILE, "model": "llama3-70b", "gpu": "h100", "gpus": 1}
    return write(tmp_path, yaml.safe_dump({"deployments": [deployment]}))


def test_annotations_survive_newlines_percent_signs_and_colons(run: Run, tmp_path: Path) -> None:
    result = run("check", hostile(tmp_path), "--format", "github")
    (line,) = result.stdout.splitlines()
    found = re.fullmatch(r"::error file=deploy\.yaml,line=(\d+),title=([^:,]*)::(.*)", line)
    assert found is not None
    title = found[2]
    for code, char in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
        title = title.replace(code, char)
    assert title == "kvplan we:ird, 100%\r\nname <&\"']]>\\x1b[31m\\u202e fits"
    assert found[3].startswith("does not fit: ")


def test_junit_is_whole_and_escaped(run: Run, tmp_path: Path) -> None:
    """Attributes and order of elements that JUnit.xsd (windyroad/JUnit-Schema) requires."""
    result = run("check", hostile(tmp_path), str(EXAMPLE), "--format", "junit")
    assert result.returncode == 1
    root = ET.fromstring(result.stdout)  # noqa: S314 - our own
    assert (root.tag, root.attrib) == ("testsuites", {})
    assert [suite.tag for suite in root] == ["testsuite", "testsuite"]
    for number, suite in enumerate(root):
        assert set(suite.attrib) == {
            "name",
            "package",
            "id",
            "hostname",
            "timestamp",
            "time",
            "tests",
            "failures",
            "errors",
        }
        assert suite.attrib["id"] == str(number)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.attrib["timestamp"])
        tags = [part.tag for part in suite]
        cases = int(suite.attrib["tests"])
        assert tags == ["properties", *["testcase"] * cases, "system-out", "system-err"]
        assert all(set(case.attrib) == {"name", "classname", "time"} for case in suite[1:-2])
    failure = root.find("testsuite/testcase/failure")
    assert failure is not None
    assert set(failure.attrib) == {"message", "type"}
    assert (failure.text or "").startswith("deploy.yaml:")
    assert [root[0].attrib[name] for name in ("tests", "failures", "errors")] == ["1", "1", "0"]


def test_inside_github_actions_files_are_annotated_and_the_job_is_summed_up(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = hostile(tmp_path)
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    result = run("check", file, "--json")
    assert result.document["summary"] == {"passed": 0, "failed": 1, "error": 0}
    assert "::error file=deploy.yaml,line=" in result.stderr
    lines = summary.read_text().splitlines()
    assert lines[:2] == ["before", "### kvplan check"]
    assert any(line.startswith("| we:ird, 100%\\\\r\\\\nname") for line in lines)


def test_the_action_and_the_hook_run_commands_that_exist(run: Run) -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    assert action["runs"]["using"] == "composite"
    scripts = [step["run"] for step in action["runs"]["steps"] if "run" in step]
    assert any(re.search(r"kvplan check\b", script) for script in scripts)
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    command, *arguments = hook["entry"].split()
    assert command == "kvplan"
    assert run(*arguments, str(EXAMPLE)).returncode == 0
