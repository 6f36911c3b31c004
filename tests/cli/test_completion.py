"""Completion as shells ask for it; those that are installed here are really run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import kvplan

if TYPE_CHECKING:
    from tests.command_line import Run


@pytest.mark.parametrize(
    ("words", "first", "offered", "not_offered"),
    [
        ([""], "words", {"plan", "compare", "completion"}, {"--version"}),
        (["--v"], "words", {"--version"}, {"plan"}),
        (["help", "pl"], "words", {"plan"}, {"show"}),
        (["plan", "qwen3-8"], "files", {"qwen3-8b"}, {"llama3-8b"}),
        (["plan", "meta-llama/Llama-3.1-8"], "files", {"meta-llama/Llama-3.1-8B"}, set()),
        (["compare", "gpt2", "qwen3-8"], "files", {"qwen3-8b"}, set()),
        (["plan", "gpt2", ""], "words", set(), {"gpt2"}),
        (["diff", "gpt2", "qwen3-8"], "files", {"qwen3-8b"}, set()),
        (["plan", "--gpu", "H100-sxm"], "files", {"h100-sxm-80gb"}, {"h200-sxm-141gb"}),
        (["plan", "--kv-cache-dtype", "fp8"], "words", {"fp8", "fp8_ds_mla"}, {"auto"}),
        (["plan", "--kv-cache-dtype", "a"], "words", {"auto"}, {"fp8"}),
        (["plan", "--format", "=", "j"], "words", {"json"}, {"csv"}),
        (["plan", "--format=j"], "words", {"--format=json"}, {"json"}),
        (["check", "--format", "j"], "words", {"json", "junit"}, set()),
        (["check", "--baseline", ""], "files", set(), set()),
        (["plan", "--ten"], "words", {"--tensor-parallel-size"}, {"--ctx"}),
        (["plan", "--ctx", ""], "words", set(), {"gpt2"}),
        (["plan", "--json", "gpt"], "files", {"gpt2"}, set()),
        (["plan", "--", "gpt"], "files", {"gpt2"}, set()),
        (["list", ""], "words", {"models", "gpus", "formats"}, set()),
        (["completion", ""], "words", {"bash", "zsh", "fish"}, set()),
        (["nothing", ""], "words", set(), {"plan"}),
    ],
)
def test_what_may_come_next(
    run: Run, words: list[str], first: str, offered: set[str], not_offered: set[str]
) -> None:
    result = run("__complete", *words)
    kind, *lines = result.stdout.splitlines()
    names = {line.partition("\t")[0] for line in lines}
    assert (result.returncode, result.stderr, kind) == (0, "", first)
    assert offered <= names
    assert not not_offered & names


# What is typed, and what the shell makes of it. A word that is a command for a shell stays a word.
TYPED = [
    ("kvplan pla", {"plan"}),
    ("kvplan plan qwen3-8", {"qwen3-8b"}),
    ("kvplan plan gpt2 --gpu h100-s", {"h100-sxm-80gb"}),
    ("kvplan plan gpt2 --kv-cache-dtype fp8_d", {"fp8_ds_mla"}),
    ("kvplan plan --ten", {"--tensor-parallel-size"}),
    ("kvplan plan ./my", {"./my model.yaml"}),
    ("kvplan plan '$(touch ran)' --gpu h100-s", {"h100-sxm-80gb"}),
    ("kvplan plan $(touch ran) --gpu h100-s", {"h100-sxm-80gb"}),
    ("kvplan plan `touch ran` --gpu h100-s", {"h100-sxm-80gb"}),
]


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A home of its own with ``kvplan`` on the path, and a file with a blank in its name."""
    monkeypatch.chdir(tmp_path)
    program = tmp_path / "bin" / "kvplan"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m kvplan "$@"\n')
    program.chmod(0o755)
    (tmp_path / "my model.yaml").touch()
    return {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "PYTHONPATH": str(Path(kvplan.__file__).parents[1]),
    }


BASH = """
eval "$(kvplan completion bash)"
COMP_LINE=$1 COMP_POINT=${#1}
set -f; words=($1); set +f
COMP_WORDS=("${words[@]}") COMP_CWORD=$((${#words[@]} - 1))
compopt() { :; }
_kvplan kvplan "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.parametrize(("typed", "offered"), TYPED)
def test_bash(environment: dict[str, str], typed: str, offered: set[str]) -> None:
    if "./my" in typed:
        pytest.skip("bash's own completion of files needs a terminal")
    printed = subprocess.run(
        ["bash", "--norc", "-c", BASH, "bash", typed],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
    ).stdout
    assert set(printed.split("\n")) - {""} == offered
    assert not Path("ran").exists()


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@pytest.mark.parametrize(("typed", "offered"), TYPED)
def test_fish(environment: dict[str, str], typed: str, offered: set[str]) -> None:
    script = "kvplan completion fish | source; complete -C $argv[1]"
    printed = subprocess.run(
        ["fish", "--no-config", "-c", script, typed],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
    ).stdout
    names = {line.partition("\t")[0].replace("\\", "") for line in printed.splitlines()}
    assert offered <= names
    assert not Path("ran").exists()
