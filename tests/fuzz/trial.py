"""One input run in this process, and what must never come of it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import chdir, contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from types import FrameType
from typing import NoReturn
from unittest.mock import patch
from xml.etree import ElementTree as ET

from tests.command_line import Result, kvplan
from tests.fuzz.inputs import Input

MOST_SECONDS, MOST_BYTES = 2.0, 300 << 20
_ANSWERS = {0, 1, 2, 3}
_MEASURED = {*_ANSWERS, 4}
_STOP_SECONDS = 20


class TooLongError(BaseException):
    """The input used so much processor time that it was stopped; no handler of errors takes it."""


@dataclass(frozen=True)
class Outcome:
    """What came of an input; ``problem`` is empty where all is as it has to be."""

    returncode: int
    seconds: float
    peak_bytes: int
    problem: str


def run(tried: Input) -> Outcome:
    """Run the input in a folder of its own; seconds are those of the processor."""
    with TemporaryDirectory() as folder, chdir(folder):
        for name, content in tried.files.items():
            Path(name).write_bytes(content)
        before = _reset_peak()
        start = process_time()
        try:
            with _stopped(), patch.dict(os.environ, tried.environment):
                result = kvplan(*tried.arguments)
        except TooLongError:
            return Outcome(-1, _STOP_SECONDS, 0, "stopped")
        except BaseException as error:  # noqa: BLE001
            return Outcome(-1, 0, 0, f"{type(error).__name__} got out: {error}"[:300])
        seconds, peak_bytes = process_time() - start, _peak_bytes() - before
    return Outcome(result.returncode, seconds, peak_bytes, _problem(tried, result))


def too_much(outcome: Outcome) -> str:
    """What of processor time and memory is beyond its bound; empty where nothing is."""
    if outcome.seconds > MOST_SECONDS:
        return f"{outcome.seconds:.1f} s"
    return f"{outcome.peak_bytes >> 20} MiB" if outcome.peak_bytes > MOST_BYTES else ""


@contextmanager
def _stopped() -> Iterator[None]:
    def stop(_: int, __: FrameType | None) -> NoReturn:
        raise TooLongError

    old = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, _STOP_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, old)


def _reset_peak() -> int:
    """Resident bytes now, from which on the peak is counted; 0 where the system cannot tell."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _peak_bytes()


def _peak_bytes() -> int:
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    return 0


def _problem(tried: Input, result: Result) -> str:
    allowed = _MEASURED if tried.arguments[:1] == ("measure",) else _ANSWERS
    if result.returncode not in allowed:
        return f"exit code {result.returncode}: {result.stderr.strip()[-300:]}"
    for name, text in (("stdout", result.stdout), ("stderr", result.stderr)):
        raw = {char for char in text if not char.isprintable()} - {"\n"}
        if raw:
            return f"raw characters on {name}: {sorted(map(ascii, raw))[:5]}"
    if "Traceback" in result.stderr:
        return "a traceback on stderr"
    if not result.stdout and result.returncode == 0 and not _writes(tried):
        return "no answer"
    return _unreadable(tried, result.stdout) if result.stdout else ""


def _writes(tried: Input) -> bool:
    return not {"-o", "--output"}.isdisjoint(tried.arguments)


def _unreadable(tried: Input, stdout: str) -> str:
    """Why an answer is not in the format that was asked for."""
    arguments = tried.arguments
    named = [after for flag, after in pairwise(arguments) if flag == "--format"]
    output = "json" if "--json" in arguments else (named or [""])[-1]
    try:
        if output == "json":
            json.loads(stdout, parse_constant=_no_constant)
        if output == "junit":
            ET.fromstring(stdout)  # noqa: S314 - kvplan wrote it
    except (ValueError, ET.ParseError) as error:
        return f"not {output}: {error}"
    return ""


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
