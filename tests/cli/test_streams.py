"""The exit code is the answer's, whatever becomes of stdout and stderr."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from unittest.mock import patch
from xml.etree import ElementTree as ET

import pytest

from kvplan.cli.app import main
from tests.command_line import Result
from tests.hf.small_llama import CONFIG

ROOT = Path(__file__).parents[2]
FULL = Path("/dev/full")

FITS = "plan llama3.1-70b --gpu h100 --gpus 4 --ctx 32k"
DOES_NOT = "plan llama3.1-70b --gpu h100 --gpus 1 --ctx 32k"
UNKNOWN = "plan no-such-model"
CODES = ((FITS, 0), (DOES_NOT, 1), (UNKNOWN, 2))
needs_full = pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")


def shell(command: str, **environment: str) -> Result:
    """``kvplan COMMAND`` in bash, with the exit code of kvplan where it is the first of a pipe."""
    line = f"{sys.executable} -m kvplan {command}; exit ${{PIPESTATUS[0]}}"
    variables = {name: value for name, value in os.environ.items() if name != "GITHUB_ACTIONS"}
    result = subprocess.run(
        ["bash", "-c", line],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
        env={**variables, "PYTHONPATH": str(ROOT), **environment},
    )
    return Result(result.returncode, result.stdout, result.stderr)


@pytest.mark.parametrize("command", ["list", "--help", "plan --help", "--version", FITS])
def test_a_reader_that_goes_away_is_no_failure(command: str) -> None:
    result = shell(f"{command} 2>/dev/null | true")
    assert (result.returncode, result.stderr) == (0, "")


def test_a_reader_that_goes_away_does_not_change_the_answer() -> None:
    assert shell(f"{DOES_NOT} | true").returncode == 1


@pytest.mark.parametrize(("command", "code"), CODES)
@pytest.mark.parametrize("stderr", [pytest.param("2>/dev/full", marks=needs_full), "2>&-"])
def test_a_stderr_that_takes_nothing_loses_only_what_was_for_it(
    command: str, code: int, stderr: str
) -> None:
    result = shell(f"{command} {stderr}")
    assert result.returncode == code
    assert result.stdout == shell(f"{command} 2>/dev/null").stdout


@pytest.mark.parametrize(("command", "code"), CODES)
def test_nobody_who_reads_stderr(command: str, code: int) -> None:
    assert shell(f"{command} 2>&1 >/dev/null | true").returncode == code


@pytest.mark.parametrize("command", [FITS, DOES_NOT, f"{FITS} --json", "--help", "--version"])
@pytest.mark.parametrize(
    ("stdout", "reason"),
    [
        pytest.param(">/dev/full", "No space left on device", marks=needs_full),
        (">&-", "stdout is closed"),
    ],
)
def test_an_answer_that_cannot_be_written_is_a_bad_file(
    command: str, stdout: str, reason: str
) -> None:
    result = shell(f"{command} {stdout}")
    assert result.returncode == 2
    assert result.stderr.endswith(f"error: the answer cannot be written: {reason}\n")


@pytest.mark.parametrize("streams", [">&- 2>&-", "<&- >&- 2>&-"])
def test_with_no_stream_at_all_the_answer_is_not_written(streams: str) -> None:
    assert shell(f"{FITS} {streams}").returncode == 2


def test_a_file_that_is_written_is_never_taken_for_a_closed_stream(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    command = f"import {tmp_path / 'config.json'} -o"
    assert shell(f"{command} {tmp_path / 'one.yaml'}").returncode == 0
    assert shell(f"{command} {tmp_path / 'two.yaml'} >&- 2>&-").returncode == 0
    assert (tmp_path / "one.yaml").read_text() == (tmp_path / "two.yaml").read_text()


ENCODINGS = ["ascii", "ascii:strict", "latin-1", "cp1252", "shift_jis", "utf-16", "cp037"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_any_encoding_of_the_terminal_takes_the_answer(encoding: str) -> None:
    result = shell("compare llama3-70b", PYTHONIOENCODING=encoding)
    assert result.returncode == 0
    assert "\\u2500" not in result.stdout  # lines of the table, which ASCII has as well
    assert shell(f"plan 模型 {FITS}", PYTHONIOENCODING=encoding).returncode == 2


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_json_and_junit_are_utf_8_in_any_encoding_of_the_terminal(encoding: str) -> None:
    example = ROOT / "configs" / "checks" / "example.yaml"
    answers = [
        shell(f"{FITS} --json", PYTHONIOENCODING=name).stdout for name in (encoding, "utf-8")
    ]
    assert answers[0] == answers[1]
    assert json.loads(answers[0])["command"] == "plan"
    junit = shell(f"check {example} --format junit", PYTHONIOENCODING=encoding)
    assert ET.fromstring(junit.stdout.encode()).tag == "testsuites"  # noqa: S314 - our own


class Failing(StringIO):
    """A stream that takes so many characters, and then raises."""

    def __init__(self, room: int, error: Exception) -> None:
        super().__init__()
        self.room = room
        self.error = error

    def write(self, text: str) -> int:
        self.room -= len(text)
        if self.room < 0:
            raise self.error
        return super().write(text)


@pytest.mark.parametrize("room", [0, 10, 200])
@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), ValueError("closed")])
@pytest.mark.parametrize(("command", "code"), CODES)
def test_a_stderr_that_raises_in_the_middle(
    command: str, code: int, room: int, error: Exception
) -> None:
    with (
        patch("sys.argv", ["kvplan", *command.split()]),
        redirect_stdout(StringIO()) as out,
        redirect_stderr(Failing(room, error)),
        pytest.raises(SystemExit) as end,
    ):
        main()
    assert end.value.code == code
    assert bool(out.getvalue()) == (code < 2)


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), ValueError("closed")])
def test_a_stdout_that_raises_in_the_middle(error: Exception) -> None:
    with (
        patch("sys.argv", ["kvplan", *DOES_NOT.split()]),
        redirect_stdout(Failing(10, error)),
        redirect_stderr(StringIO()) as err,
        pytest.raises(SystemExit) as end,
    ):
        main()
    assert end.value.code == 2
    assert "error: the answer cannot be written: " in err.getvalue()


@pytest.mark.parametrize("error", [MemoryError(), RecursionError("too deep"), SystemExit(1)])
def test_what_nobody_expected_is_a_bug_in_one_line_and_never_does_not_fit(
    error: BaseException,
) -> None:
    with (
        patch("sys.argv", ["kvplan", *DOES_NOT.split()]),
        patch("kvplan.planner.solve.solve", side_effect=error),
        redirect_stdout(StringIO()) as out,
        redirect_stderr(StringIO()) as err,
        pytest.raises(SystemExit) as end,
    ):
        main()
    assert (end.value.code, out.getvalue()) == (70, "")
    first, hint = err.getvalue().splitlines()
    assert first.startswith(f"error: a bug in kvplan: {type(error).__name__}")
    assert hint == "  please report it with the command line that led here"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-16"])
def test_an_imported_spec_is_utf_8_as_its_file_is(encoding: str, tmp_path: Path) -> None:
    folder = tmp_path / "modèle 模型"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    result = shell(f"import '{folder}'", PYTHONIOENCODING=encoding)
    assert result.stdout.startswith('name: "modèle 模型"\n')
