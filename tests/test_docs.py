"""The pages in docs/ show what the program does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import kvplan
from kvplan.registry.yaml import read_yaml
from kvplan.views.check import message
from tests.command_line import kvplan as command
from tests.docs import COMMANDS, checks_part, commands, commands_part, part_of

PAGES = {path.stem: path.read_text(encoding="utf-8") for path in COMMANDS.parent.glob("*.md")}


def block(page: str, language: str, begins: str = "") -> str:
    """The page's first block in this language that begins so."""
    blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", PAGES[page], re.DOTALL)
    return next(text for text in blocks if text.startswith(begins))


def test_the_help_of_every_command_is_what_is_printed() -> None:
    assert part_of(PAGES["commands"]) == commands_part()
    assert len(commands()) >= 9
    for name in commands():
        assert f"\n## kvplan {name}\n" in PAGES["commands"]


def test_the_spec_loads(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(block("specs", "yaml"))
    assert read_yaml(path).data["pattern"] == ["local*3", "global"]
    result = kvplan.footprint(kvplan.load(path), 131_072)
    assert result.bytes_per_token == 8 * 4_096
    assert result.fixed_bytes_per_sequence == 24 * 4_096 * 4_096


def test_a_gpu_needs_a_name_and_memory(tmp_path: Path) -> None:
    path = tmp_path / "my-card.yaml"
    path.write_text(block("gpus", "yaml"))
    answer = command("plan", "qwen3-8b", "--gpu", str(path), "--ctx", "8k", "--json").document
    assert answer["per_gpu"]["memory_bytes"] == 24 << 30
    assert answer["decode"]["step_seconds"] is None


def test_the_python_runs(tmp_path: Path) -> None:
    (tmp_path / "deploy.yaml").write_text(block("checks", "yaml", "defaults"))
    printed = subprocess.run(
        [sys.executable, "-c", block("python", "python")],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(kvplan.__file__).parent.parent)},
    ).stdout
    assert "chat max_gpus passed" in printed


def _words(text: str) -> list[str]:
    """What a screen says; where its lines break is the affair of rich's version."""
    return [word for word in text.split() if set(word) != {"─"}]


def test_the_deployments_for_ci_pass_and_fail_as_told(tmp_path: Path) -> None:
    path = tmp_path / "deploy.yaml"
    path.write_text(block("checks", "yaml", "defaults"))
    assert {finding.status for finding in kvplan.check(path).findings} == {"passed"}
    path.write_text(path.read_text().replace("context: 32k", "context: 64k"))
    failed = [finding for finding in kvplan.check(path).findings if finding.status == "failed"]
    assert message(failed[0]).startswith("does not fit: caches need 100.00 GiB on each of 2 × ")
    # By hand: 80 layers x 2 x 8 heads x 128 x 1 byte / 2 GPUs = 81,920 bytes a token.
    assert 20 * 65_536 * 81_920 == 100 << 30
    assert _words(part_of(PAGES["checks"])) == _words(checks_part())
    assert "11 of 20 sequences fit, or 38,904 tokens" in PAGES["checks"]


def test_the_command_of_a_plan_is_what_is_printed() -> None:
    asked, printed = re.findall(
        r"    \$ kvplan (.*--emit)\n    (vllm serve .*)\n", PAGES["engines"]
    )[0]
    assert command(*asked.split()).stdout == f"{printed}\n"
