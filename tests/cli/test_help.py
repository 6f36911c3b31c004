"""Help as people read it, and what a misspelt word is answered with."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
import typer

from kvplan.cli.app import app
from kvplan.cli.commands import TITLES, summary
from kvplan.cli.output import write_help
from tests import command_line

if TYPE_CHECKING:
    from tests.command_line import Run

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
EXAMPLE = Path(__file__).parents[2] / "configs" / "checks" / "example.yaml"
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 256,
    "max_position_embeddings": 512,
}


def examples(text: str) -> list[str]:
    """The command lines at the end of a help."""
    lines = text.partition("\nExamples:\n")[2].splitlines()
    return [line.strip() for line in lines if not line.strip().startswith("#")]


EXAMPLES = [
    (name, line)
    for name, command in [("", typer.main.get_command(app)), *COMMANDS.items()]
    if name != "completion"  # lines of a shell, which tests/cli/test_completion.py runs
    for line in examples(command.help or "")
]


@pytest.fixture
def folder(run: Run, tmp_path: Path) -> Path:
    """Where the files lie that the examples name."""
    shutil.copy(EXAMPLE, tmp_path / "deploy.yaml")
    for lock in ("plan.lock.json", "old.lock.json"):
        run("check", "deploy.yaml", "--baseline", lock, "--update-baseline")
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


@pytest.mark.parametrize(("name", "line"), EXAMPLES)
def test_every_example_runs(run: Run, folder: Path, name: str, line: str) -> None:
    program, *arguments = shlex.split(line)
    assert program == "kvplan"
    assert folder.is_dir()
    if name == "measure":
        torch = importlib.util.find_spec("torch") is not None
        if not (torch and "cpu" in arguments):
            pytest.skip("measures on a device")
    result = run(*arguments)
    assert result.returncode in (0, 1), result.stderr
    assert result.stdout or "-o" in arguments


def test_each_command_has_two_examples() -> None:
    for name, command in COMMANDS.items():
        assert len(examples(command.help)) == 2, name


@pytest.mark.parametrize("name", COMMANDS)
def test_options_stand_in_groups_of_one_order(run: Run, name: str) -> None:
    text = run(name, "--help").stdout
    titles = [line[:-1] for line in text.splitlines() if line[:1].isalpha() and line[-1] == ":"]
    known = [*TITLES, "Examples"]
    assert set(titles) <= set(known)
    assert titles == sorted(titles, key=known.index)
    for vague in ("INTEGER", "TEXT:", "FLOAT", "<", "{"):
        assert vague not in text
    assert text.startswith(summary(COMMANDS[name])[:40])
    assert text == run("help", name).stdout


@pytest.mark.parametrize("columns", [80, 100, 140])
@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_no_line_is_wider_than_the_terminal(run: Run, name: str, columns: int) -> None:
    text = run(*filter(None, [name]), "--help", columns=columns).stdout
    assert max(map(len, text.splitlines())) <= columns


def test_a_summary_is_one_whole_line_at_80_columns(run: Run) -> None:
    text = run("--help", columns=80).stdout
    listed = text.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in listed] == list(COMMANDS)
    assert all(line.endswith(".") for line in listed)


def test_a_default_and_a_metavar_stay_whole(run: Run) -> None:
    assert "[default: h100-sxm-80gb]" in run("plan", "--help", columns=80).stdout
    assert "--from-hub ORG/NAME[@REVISION]" in run("import", "--help", columns=80).stdout


def test_help_and_version_have_short_names(run: Run) -> None:
    assert run("-V") == run("--version")
    assert run("-h") == run("--help") == run("help") == run()
    assert run("-V").returncode == 0
    assert run("plan", "-h") == run("help", "plan")


@pytest.mark.parametrize(
    ("line", "said", "meant"),
    [
        ("pln gpt2", "no such command: pln", "did you mean plan?"),
        ("help compair", "no such command: compair", "did you mean compare?"),
        ("plan gpt2 --ctxt 3", "no such option: --ctxt", "did you mean --ctx?"),
        ("plan gpt2 --ctxt=3", "no such option: --ctxt", "did you mean --ctx?"),
        ("plan gpt2 -dpa 2", "no such option: -dpa", "-dp"),
        ("plan gpt2 -tpp 2", "no such option: -tpp", "-tp"),
        ("plan gpt2 --max_model_len 3", "no such option: --max_model_len", "--max-model-len?"),
        ("plan gpt2 --gpu-mem 1", "no such option: --gpu-mem", "--gpu-memory-utilization"),
        ("show gpt2 --gpu h100", "kvplan show has no option --gpu", "compare, plan, layouts"),
        ("--verison", "no such option: --verison", "--version"),
        ("zzz", "no such command: zzz", "kvplan --help shows all commands"),
        ("qwen3-8b", "no such command: qwen3-8b", "kvplan plan qwen3-8b, or kvplan show"),
        ("--json plan gpt2", "--json stands before the command", "kvplan COMMAND ... --json"),
        ("plan", "kvplan plan: MODEL is missing", "for example: kvplan plan deepseek-v3"),
        ("plan --gpu h100", "kvplan plan: MODEL is missing", "kvplan list shows the models"),
        ("diff gpt2", "kvplan diff: B is missing", "for example: kvplan diff llama3.1-8b"),
        ("check", "kvplan check: FILE is missing", "for example: kvplan check deploy.yaml"),
        ("completion", "kvplan completion: SHELL is missing", "kvplan completion bash"),
        ("plan gpt2 --ctx", "--ctx needs a value: TOKENS", "for example: kvplan plan"),
        ("plan gpt2 --json=1", "--json takes no value", "for example: kvplan plan"),
        ("show gpt2 b", "kvplan show: one word too many: b", "for example: kvplan show"),
    ],
)
def test_a_misspelt_word_is_answered_with_the_nearest(
    run: Run, line: str, said: str, meant: str
) -> None:
    result = run(*line.split())
    first, second = result.stderr.splitlines()
    assert (result.returncode, result.stdout, first) == (2, "", f"error: {said}")
    assert meant in second


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_colours_change_no_word_of_a_help(name: str) -> None:
    words = [*filter(None, [name]), "--help"]
    plain = command_line.kvplan(*words, columns=80).stdout
    coloured = command_line.kvplan(*words, columns=80, coloured=True).stdout
    assert "\x1b" not in plain
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == plain
    shown = {re.sub(r"\x1b\[[\d;]*m", "", part) for part in _COLOURED.findall(coloured)}
    assert {"Usage:", "-h, --help"} <= shown
    assert any(part.startswith("# ") for part in shown)


_COLOURED = re.compile(r"(\x1b\[[1-9][\d;]*m.*?)\x1b\[0m")


def test_a_terminal_without_colours_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    with patch("sys.stdout", command_line.Terminal()) as stream:
        write_help("Usage: kvplan\n")
    assert stream.getvalue() == "Usage: kvplan\n"
