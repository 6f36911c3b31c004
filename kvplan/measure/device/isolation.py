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
from kvplan.measure.device import require_torch
from kvplan.measure.device.decode import NAIVE, OnTrial, measure_decode
from kvplan.measure.device.device import first_line, open_device
from kvplan.measure.question import DecodeQuestion, Kernel
from kvplan.measure.rates import DecodeMeasurement, KernelTime

_PATIENCE_SECONDS = 600  # a kernel that hangs is given up


def measure_decode_apart(
    device: str, question: DecodeQuestion, on_trial: OnTrial
) -> DecodeMeasurement:
    """The decode measurement, made in a process of its own.

    A kernel that takes the process with it is left out the next time, and so is MLA's naive form.
    Raises what ``measure_decode`` raises, and MeasurementError where nothing survives.
    """
    lost: list[KernelTime] = []
    while True:
        result, trying = attempt(device, question, on_trial)
        if isinstance(result, DecodeMeasurement):
            return _add_times(result, tuple(lost))
        reason = f"took its process with it: {result}"
        if trying == NAIVE and question.no_naive is None:
            question = replace(question, no_naive=reason)
        elif trying in set(Kernel) and question.kernel is Kernel.AUTO:
            lost.append(KernelTime(Kernel(trying), reason=reason))
            question = replace(question, skip=(*question.skip, Kernel(trying)))
        else:
            raise MeasurementError(f"the measuring process died: {result}")


def _add_times(decode: DecodeMeasurement, lost: tuple[KernelTime, ...]) -> DecodeMeasurement:
    layers = tuple(replace(layer, times=(*layer.times, *lost)) for layer in decode.layers)
    return replace(decode, layers=layers)


def attempt(
    device: str, question: DecodeQuestion, on_trial: OnTrial
) -> tuple[DecodeMeasurement | str, str]:
    """The measurement, or how the child ended; and what it had begun."""
    spawning = multiprocessing.get_context("spawn")
    ours, theirs = spawning.Pipe()
    child = spawning.Process(target=_measure, args=(theirs, device, question), daemon=True)
    with _ignore_interrupts():
        child.start()
    theirs.close()
    trying = ""
    try:
        while ours.poll(_PATIENCE_SECONDS):
            what, value = ours.recv()
            if what == "trying":
                trying = value
                on_trial(value)
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
def _ignore_interrupts() -> Iterator[None]:
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


def _measure(pipe: Connection, device: str, question: DecodeQuestion) -> None:
    """What the child does: ``trying`` is sent before each trial, ``result`` or ``error`` last."""
    warnings.simplefilter("ignore")  # what kernels' libraries have to say of themselves
    try:
        require_torch()
        here = open_device(device)
        here.select()
        if question.max_bytes is not None:
            here.bound(question.max_bytes)
        result: Any = measure_decode(here, question, lambda text: pipe.send(("trying", text)))
        pipe.send(("result", result))
    except KvplanError as error:
        pipe.send(("error", error))
    except Exception as error:  # noqa: BLE001 - whatever CUDA raises goes to the parent
        pipe.send(("result", f"{type(error).__name__}: {first_line(error)}"))
