"""The README shows what the program does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import typer

import kvplan
from kvplan.cli.app import app
from kvplan.registry.yaml import read_yaml
from kvplan.views.check import message
from tests.command_line import cells

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_table_is_what_the_first_command_prints() -> None:
    shown = README.split("```\n")[1]
    program = "import sys; from kvplan.cli.app import main; main()"
    printed = subprocess.run(
        [sys.executable, "-c", program, "compare", "llama3-70b", "deepseek-v3", "--ctx", "128k"],
        capture_output=True,
        text=True,
        check=True,
        env={"COLUMNS": "80", "PYTHONPATH": str(Path(kvplan.__file__).parent.parent)},
    ).stdout
    assert cells(shown) == cells(printed)


def test_the_spec_loads(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(README.split("```yaml\n")[1].split("```")[0])
    assert read_yaml(path).data["pattern"] == ["local*3", "global"]
    result = kvplan.footprint(kvplan.load(path), 131_072)
    assert result.bytes_per_token == 8 * 4_096
    assert result.fixed_bytes_per_sequence == 24 * 4_096 * 4_096


def test_the_python_runs(tmp_path: Path) -> None:
    (tmp_path / "deploy.yaml").write_text(
        next(block for block in README.split("```yaml\n") if block.startswith("defaults")).split(
            "```"
        )[0]
    )
    program = README.split("```python\n")[1].split("```")[0]
    printed = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(kvplan.__file__).parent.parent)},
    ).stdout
    assert "chat max_gpus passed" in printed


def test_the_numbers_of_the_catalogue_are_right() -> None:
    models = re.findall(r"(\d+) of them|catalogue of (\d+) models", README)
    assert {int(a or b) for a, b in models} == {len(kvplan.catalogue())}


def test_every_command_is_documented() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert len(commands) >= 9
    for command in commands:
        assert f"    kvplan {command} " in README, command


def test_the_deployments_for_ci_pass_and_fail_as_told(tmp_path: Path) -> None:
    text = next(block for block in README.split("```yaml\n") if block.startswith("defaults"))
    path = tmp_path / "deploy.yaml"
    path.write_text(text.split("```")[0])
    assert {finding.status for finding in kvplan.check(path).findings} == {"passed"}
    path.write_text(path.read_text().replace("context: 32k", "context: 64k"))
    failed = [finding for finding in kvplan.check(path).findings if finding.status == "failed"]
    assert message(failed[0]) in " ".join(README.split())
