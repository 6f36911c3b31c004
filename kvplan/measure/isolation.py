"""Work in a child process: a kernel that kills its CUDA context kills nothing else."""

from __future__ import annotations

import multiprocessing
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from kvplan.errors import KvplanError, MeasurementError
from kvplan.measure import require_torch
from kvplan.measure.decode import (
    NAIVE,
    DecodeMeasurement,
    DecodeQuestion,
    KernelTime,
    Tell,
    measured_decode,
)
from kvplan.measure.device import first_line, opened
from kvplan.measure.names import Kernel

_PATIENCE_SECONDS = 600  # a kernel that hangs is given up


def decode_apart(device: str, question: DecodeQuestion, tell: Tell) -> DecodeMeasurement:
    """The decode measurement, made in a process of its own.

    A kernel that takes the process with it is left out the next time, and so is MLA's naive form.
    Raises what ``measured_decode`` raises, and MeasurementError where nothing survives.
    """
    lost: list[KernelTime] = []
    while True:
        found, trying = attempt(device, question, tell)
        if isinstance(found, DecodeMeasurement):
            return _with_lost(found, tuple(lost))
        reason = f"took its process with it: {found}"
        if trying == NAIVE and question.no_naive is None:
            question = replace(question, no_naive=reason)
        elif trying in set(Kernel) and question.kernel is Kernel.AUTO:
            lost.append(KernelTime(Kernel(trying), reason=reason))
            question = replace(question, skip=(*question.skip, Kernel(trying)))
        else:
            raise MeasurementError(f"the measuring process died: {found}")


def _with_lost(found: DecodeMeasurement, lost: tuple[KernelTime, ...]) -> DecodeMeasurement:
    layers = tuple(replace(layer, tried=(*layer.tried, *lost)) for layer in found.layers)
    return replace(found, layers=layers)


def attempt(
    device: str, question: DecodeQuestion, tell: Tell
) -> tuple[DecodeMeasurement | str, str]:
    """The measurement, or how the child ended; and what it had begun."""
    spawning = multiprocessing.get_context("spawn")
    ours, theirs = spawning.Pipe()
    child = spawning.Process(target=_child, args=(theirs, device, question), daemon=True)
    with _deaf_to_interrupts():
        child.start()
    theirs.close()
    trying = ""
    try:
        while ours.poll(_PATIENCE_SECONDS):
            what, value = ours.recv()
            if what == "trying":
                trying = value
                tell(value)
            elif what == "error":
                raise value
            else:
                return value, trying
    except (EOFError, ConnectionError):
        child.join()
        return f"exit code {child.exitcode}", trying
    finally:
        child.kill()
        child.join()
    return f"nothing heard for {_PATIENCE_SECONDS} s", trying


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """A process started in here never sees Ctrl-C: its parent does, and ends it."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not in the main thread: signals are not ours
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _child(pipe: Connection, device: str, question: DecodeQuestion) -> None:
    warnings.simplefilter("ignore")  # what kernels' libraries have to say of themselves
    try:
        require_torch()
        there = opened(device)
        there.select()
        if question.max_bytes is not None:
            there.bound(question.max_bytes)
        found: Any = measured_decode(there, question, lambda text: pipe.send(("trying", text)))
        pipe.send(("found", found))
    except KvplanError as error:
        pipe.send(("error", error))
    except Exception as error:  # noqa: BLE001 - whatever CUDA raises goes to the parent
        pipe.send(("found", f"{type(error).__name__}: {first_line(error)}"))
