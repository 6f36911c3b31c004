"""A signal ends kvplan with the shell's code for it, and without a word, from its first line on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLAN = ("plan", "llama3.1-70b", "--gpu", "h100", "--gpus", "4", "--ctx", "32k", "--json")

# Runs kvplan's entry point, and sends itself a signal once so many lines of Python were executed;
# counted, not timed, so that each moment is met on any machine.
PROGRAM = """
import os, signal, sys
number, left = int(sys.argv[1]), int(sys.argv[2])
sys.argv = ["kvplan", *sys.argv[3:]]
from kvplan.__main__ import main
def count(frame, event, arg):
    global left
    left -= 1
    if left == 0:
        sys.settrace(None)
        signal.raise_signal(number)
    return count
begin = sys.modules["kvplan.__main__"]._on_signals
def traced(handler):
    begin(handler)
    if sys.gettrace() is None and handler is not None and left > 0:
        sys.settrace(count)
sys.modules["kvplan.__main__"]._on_signals = traced
main()
"""


def interrupted(number: int, lines: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, str(number), str(lines), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


# While the commands, pydantic and the catalogue are imported, and while a plan is sought.
@pytest.mark.parametrize("lines", [1, 50, 3_000, 20_000, 60_000, 90_000, 120_000, 150_000])
def test_ctrl_c_at_any_moment(lines: int) -> None:
    result = interrupted(signal.SIGINT, lines, *PLAN)
    assert result.stderr == ""
    assert (result.returncode, result.stdout) == (130, "")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("lines", [50, 120_000])
def test_other_signals_have_the_code_that_shells_give_them(name: str, lines: int) -> None:
    number = getattr(signal, name, None)
    if number is None:
        pytest.skip("no such signal here")
    result = interrupted(number, lines, *PLAN)
    assert (result.returncode, result.stdout, result.stderr) == (128 + number, "", "")


def test_what_the_parent_ignores_stays_ignored() -> None:
    command = f"trap '' HUP; {sys.executable} -c '{PROGRAM}' 1 120000 {' '.join(PLAN)}"
    result = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert result.returncode == 0
    assert result.stdout.startswith("{")


def test_a_signal_that_python_would_drop_ends_kvplan() -> None:
    """An exception in a finaliser is printed and lost; Ctrl-C may come there."""
    program = (
        "import signal, sys\n"
        "from unittest.mock import patch\n"
        "from kvplan.__main__ import main\n"
        "class Freed:\n"
        "    def __del__(self): signal.raise_signal(signal.SIGINT); [None for _ in range(9)]\n"
        "def run():\n"
        "    Freed()\n"
        "    sys.exit(0)\n"
        "with patch('kvplan.cli.app.main', run): main()\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (result.returncode, result.stderr) == (130, "")


def test_a_package_that_is_missing_is_one_line_and_no_traceback() -> None:
    program = "import sys\nsys.modules['typer'] = None\nfrom kvplan.__main__ import main\nmain()\n"
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert result.returncode == 70
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: kvplan cannot run: ModuleNotFoundError: ")
