"""The action in a workspace that wants to run, to hide from it, or to speak to the runner."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.checks.action import REQUIREMENTS, ROOT, Job, offline_action, requirements, steps

MODULES = (
    *("pip", "kvplan", "sitecustomize", "usercustomize", "typer", "rich", "pydantic", "json"),
    *("os", "pathlib", "venv", "sysconfig", "yaml/__init__"),
    "setup",
)
PROGRAMS = (
    *("python", "python3", "pip", "kvplan", "cat", "mktemp", "mkdir", "sed", "uv", "git", "ldd"),
    *("rustc", "lsb_release", "uname"),  # which pip asks for its name to an index
)
TRAP = "open({!r}, 'a').write(__file__ + '\\n')\n"

FITS = "deployments: [{name: a, model: llama3-8b, gpu: h100, gpus: 1, context: 8k, sequences: 1}]\n"
FAILS = FITS.replace("llama3-8b", "llama3-70b")
UNKNOWN = FITS.replace("llama3-8b", "./model")
MODEL = '{"model_type": "unheard_of", "architectures": ["UnheardOfForCausalLM"]}'
NAMES = {
    "[prod].yaml": "[prod].yaml",
    "a b.yaml": "a b.yaml",
    "new\nline.yaml": "new\\nline.yaml",
    "-rf": "-rf",
    "--help": "--help",
    "$(touch pwned)": "$(touch pwned)",
    "`touch pwned`": "`touch pwned`",
    "'\"; touch pwned #": "'\"; touch pwned #",
    "::error::x": "::error::x",
    "*": "*",
    "{a,b}.yaml": "{a,b}.yaml",
}
"""Names of files, and how an answer shows them."""


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A runner's folders, with a workspace full of traps."""
    if find_spec("pip") is None or os.name != "posix":
        pytest.skip("the action's first step needs pip, and this test bash")
    folder = tmp_path_factory.mktemp("runner")
    workspace = folder / "workspace"
    home = workspace / "home"
    site = f".local/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    trap = TRAP.format(str(folder / "sprung"))
    for place in (workspace, home / site):
        for module in MODULES:
            path = place / f"{module}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(trap)
        (place / "trap.pth").write_text(f"import os; open({str(folder / 'sprung')!r}, 'a')\n")
    for program in PROGRAMS:
        path = workspace / "bin" / program
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\necho {program} >>'{folder / 'sprung'}'\n")
        path.chmod(0o755)
    for path in (workspace / "pip.conf", home / ".config/pip/pip.conf", home / ".pip/pip.conf"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"[global]\ntarget = {workspace / 'target'}\nno-index = false\n")
    environment = {
        "PATH": f"{workspace / 'bin'}:.:{os.environ['PATH']}",
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "XDG_CONFIG_DIRS": str(workspace),
        "PIP_CONFIG_FILE": str(workspace / "pip.conf"),
        "PIP_TARGET": str(workspace / "target"),
        "PYTHONPATH": f"{workspace}:.",
        "PYTHONSTARTUP": str(workspace / "pip.py"),
        "PYTHONUSERBASE": str(home / ".local"),
        "GITHUB_ACTIONS": "true",
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
    }
    (folder / "temp").mkdir()
    return Job(offline_action(folder / "action"), folder / "temp", workspace, environment)


@pytest.fixture
def sprung(job: Job) -> Path:
    """Where code of the workspace says that it ran; no test leaves it behind."""
    path = job.temp.parent / "sprung"
    path.unlink(missing_ok=True)
    return path


@pytest.fixture(scope="module")
def installed(job: Job) -> Job:
    """The job after its first step."""
    result = job.install()
    assert result.returncode == 0, result.stderr
    return job


def put(job: Job, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = job.workspace / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def test_the_traps_spring_where_python_is_not_isolated(job: Job, sprung: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "--version"],
        cwd=job.workspace,
        env=job.environment,
        capture_output=True,
        check=False,
    )
    assert sprung.exists()


def test_nothing_of_the_workspace_runs(job: Job, sprung: Path) -> None:
    before = sorted(job.workspace.rglob("*"))
    result = job.install()
    assert (result.returncode, result.stdout) == (0, "")
    put(job, {"good.yaml": FITS})
    result = job.check("good.yaml")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("The one check passed.") == 1
    assert not sprung.exists()
    assert sorted(job.workspace.rglob("*")) == sorted([*before, job.workspace / "good.yaml"])


def test_every_file_of_a_strange_name_is_checked(installed: Job, sprung: Path) -> None:
    put(installed, {f"strange/{name}": FITS for name in NAMES})
    result = installed.check("strange/*", junit="all.xml")
    assert result.returncode == 0, result.stderr
    shown = {f"strange/{name}" for name in NAMES.values()}
    assert set(installed.checked_files("all.xml")) == shown
    assert not sprung.exists()
    assert not list(installed.workspace.rglob("pwned"))


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("*", "new\nline.yaml")])
def test_a_strange_name_is_one_file(installed: Job, sprung: Path, name: str) -> None:
    """The only failing one of its folder: what a second expansion would miss."""
    put(installed, {f"alone/{other}": FITS for other in ("p.yaml", *NAMES)})
    put(installed, {f"alone/{name}": FAILS})
    result = installed.check(f"alone/{name}", junit="one.xml")
    assert result.returncode == 1
    assert installed.checked_files("one.xml") == [f"alone/{name}"]
    assert not sprung.exists()


def test_names_at_the_top_are_no_options(installed: Job) -> None:
    put(installed, {"-rf": FITS, "--help": FITS, "[prod].yaml": FAILS, "p.yaml": FITS})
    result = installed.check("-rf\r\n\r\n \n--help\n[prod].yaml\r\n", junit="top.xml")
    assert result.returncode == 1
    assert installed.checked_files("top.xml") == ["-rf", "--help", "[prod].yaml"]


@pytest.mark.parametrize(
    ("files", "junit", "code", "said"),
    [
        ("good.yaml", "", 0, ""),
        ("good.yaml\nbad.yaml", "out.xml", 1, "::error file=bad.yaml,line=1"),
        ("good.yaml\nno/*.yaml", "out.xml", 2, "no file matches this pattern"),
        ("good.yaml\ngone.yaml", "", 2, "No such file"),
        ("unknown.yaml", "", 3, "is not known"),
        ("good.yaml", "no/folder/out.xml", 2, "error: no/folder/out.xml: cannot be written"),
        ("", "", 2, ""),
        (" \r\n\n", "", 2, ""),
    ],
)
def test_the_exit_code_is_the_check_s(
    installed: Job, files: str, junit: str, code: int, said: str
) -> None:
    """One run gives both answers, and neither hides the other's failure."""
    put(
        installed,
        {"good.yaml": FITS, "bad.yaml": FAILS, "unknown.yaml": UNKNOWN, "model/config.json": MODEL},
    )
    (installed.workspace / "out.xml").unlink(missing_ok=True)
    result = installed.check(files, junit=junit)
    assert result.returncode == code, result.stderr
    assert said in result.stderr
    assert (installed.workspace / "out.xml").exists() == (junit == "out.xml")


def test_one_run_writes_junit_and_sarif(installed: Job, sprung: Path) -> None:
    """The failing deployment stands in both, on the line that its file has it on."""
    put(installed, {"good.yaml": FITS, "bad.yaml": FAILS})
    name = "$(touch pwned) '.sarif"
    result = installed.check("good.yaml\nbad.yaml", junit="both.xml", sarif=name)
    assert result.returncode == 1, result.stderr
    assert installed.checked_files("both.xml") == ["good.yaml", "bad.yaml"]
    document = json.loads((installed.workspace / name).read_text())
    assert document["version"] == "2.1.0"
    (found,) = document["runs"][0]["results"]
    place = found["locations"][0]["physicalLocation"]
    assert (place["artifactLocation"]["uri"], place["region"]["startLine"]) == ("bad.yaml", 1)
    assert installed.check("good.yaml", sarif="no/folder/out.sarif").returncode == 2
    assert not sprung.exists()


def test_a_baseline_may_have_any_name(installed: Job, sprung: Path) -> None:
    put(installed, {"good.yaml": FITS, "$(touch pwned) '\".json": '{"schema_version": 1}'})
    assert installed.check("good.yaml", baseline="$(touch pwned) '\".json").returncode == 2
    assert installed.check("good.yaml", baseline="none.json").returncode == 2
    assert not sprung.exists()
    assert not list(installed.workspace.rglob("pwned"))


def test_no_name_is_a_command_to_the_runner(installed: Job) -> None:
    """A runner takes a line that begins with :: for one, blanks before it or not."""
    put(installed, {"::warning::x": FAILS.replace("name: a", 'name: "::error::pwned"')})
    result = installed.check("::warning::x")
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert any("pwned" in line for line in lines)
    assert not [line for line in lines if line.startswith("::")]
    commands = [line for line in result.stderr.splitlines() if line.strip().startswith("::")]
    assert len(commands) == 1
    assert commands[0].startswith("::error file=%3A%3Awarning%3A%3Ax,line=1,title=")


def test_scripts_hold_no_expressions_and_what_is_used_is_pinned() -> None:
    for step in steps():
        assert "${{" not in str(step.get("run", ""))
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", str(step["uses"]))
    text = (ROOT / "action.yml").read_text()
    assert re.search(r"setup-python@[0-9a-f]{40} # v\d+\.\d+\.\d+\n", text)


def test_every_requirement_is_pinned_by_hash_and_allowed() -> None:
    entries = re.split(r"\n(?=\S)", REQUIREMENTS.read_text())
    packages = [entry for entry in entries if not entry.startswith("#")]
    assert len(packages) == len(requirements())
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", package) for package in packages)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for needed in map(Requirement, project["dependencies"]):
        assert requirements()[needed.name] in needed.specifier
