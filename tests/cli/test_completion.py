"""Completion as shells ask for it; those that are installed here are really run."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
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
        (["plan", "--dtype", ""], "words", {"auto", "bfloat16", "half"}, {"fp8"}),
        (["plan", "--quantization", "q4"], "words", {"q4_k", "q4_0", "q4_1"}, {"fp8"}),
        (["compare", "--quantization=nv"], "words", {"--quantization=nvfp4"}, set()),
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


# What is typed, and what the line reads with the Tab key. What is a command to a shell stays text.
TYPED = [
    ("kvplan pla", "kvplan plan"),
    ("kvplan plan mistral-nem", "kvplan plan mistral-nemo-12b"),
    ("kvplan plan gpt2 --gpu h100-s", "--gpu h100-sxm-80gb"),
    ("kvplan plan gpt2 --kv-cache-dtype fp8_d", "--kv-cache-dtype fp8_ds_mla"),
    ("kvplan plan gpt2 --dtype bf", "--dtype bfloat16"),
    ("kvplan plan gpt2 --quantization=nv", "--quantization=nvfp4"),
    ("kvplan plan gpt2 --format=js", "--format=json"),
    ("kvplan plan --ten", "--tensor-parallel-size"),
    ("kvplan plan ./my", r"./my\ model.yaml"),
    ("kvplan plan '$(touch ran)' --gpu h100-s", "--gpu h100-sxm-80gb"),
    ("kvplan plan $(touch ran) --gpu h100-s", "--gpu h100-sxm-80gb"),
    ("kvplan plan `touch ran` --gpu h100-s", "--gpu h100-sxm-80gb"),
]
SET_UP = {
    ("bash", "--norc", "--noprofile", "-i"): 'eval "$(kvplan completion bash)"',
    ("zsh", "-f", "-i"): 'eval "$(kvplan completion zsh)"',
}
_PATIENCE_S = 30
_READY = "REA" + "DY"


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
        "TERM": "dumb",
        "PYTHONPATH": str(Path(kvplan.__file__).parents[1]),
    }


def read_until(terminal: int, text: str) -> str:
    """What comes from the terminal, up to this text or until nothing more comes."""
    read = ""
    end = time.monotonic() + _PATIENCE_S
    while text not in read and time.monotonic() < end:
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                read += os.read(terminal, 4096).decode(errors="replace")
            except OSError:  # the shell has gone
                break
    return read


@pytest.mark.parametrize(("typed", "line"), TYPED)
@pytest.mark.parametrize("shell", SET_UP, ids=["bash", "zsh"])
def test_the_tab_key(
    environment: dict[str, str], shell: tuple[str, ...], typed: str, line: str
) -> None:
    if shutil.which(shell[0]) is None:
        pytest.skip(f"{shell[0]} is not installed")
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        shell, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    ) as process:
        os.close(theirs)
        os.write(ours, f"{SET_UP[shell]}; PS1='> '; echo REA''DY\n".encode())
        assert _READY in read_until(ours, _READY)
        os.write(ours, f"{typed}\t".encode())
        shown = read_until(ours, line)
        process.kill()
    os.close(ours)
    assert line in shown
    assert not Path("ran").exists()


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@pytest.mark.parametrize(("typed", "line"), TYPED)
def test_fish(environment: dict[str, str], typed: str, line: str) -> None:
    """Fish says without a terminal what it would complete."""
    printed = subprocess.run(
        ["fish", "--no-config", "-c", "kvplan completion fish | source; complete -C $argv", typed],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
    ).stdout
    names = [name.partition("\t")[0] for name in printed.splitlines()]
    assert any(line.replace("\\", "").endswith(name.replace("\\", "")) for name in names)
    assert not Path("ran").exists()
