"""Every way in which kvplan says no: a message, a hint and an exit code.

Exit codes: 0 fits, 1 does not fit, 2 bad usage or a bad file, 3 refused (a fact that kvplan
does not know and will not guess), 4 device or measurement failed, 70 a bug in kvplan, 130
interrupted.
"""

from __future__ import annotations

from collections.abc import Iterable

DOES_NOT_FIT = 1
BUG = 70
INTERRUPTED = 130


class Interrupted(KeyboardInterrupt):
    """A signal that ends kvplan; the exit code is the shell's for it, 130 for Ctrl-C."""

    def __init__(self, exit_code: int) -> None:
        super().__init__()
        self.exit_code = exit_code


class KvplanError(Exception):
    """Base of all errors that kvplan raises on purpose.

    ``message`` says what is wrong and where, ``hint`` what to do about it.
    """

    exit_code = BUG

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(KvplanError):
    """The question cannot be asked like this: a wrong option, an unknown name."""

    exit_code = 2


class SpecError(UsageError):
    """A file that cannot be understood; ``problems`` holds each, as ``file:line: problem``."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class RefusedError(KvplanError):
    """A question whose answer rests on a fact that kvplan does not know."""

    exit_code = 3


class MeasurementError(KvplanError):
    """A device, or the software that drives it, that does not do what a measurement needs."""

    exit_code = 4


def nearest(name: str, known: Iterable[str], count: int = 3, likeness: float = 0.6) -> list[str]:
    """The known names that look most like this one, for a hint; none that look unlike it."""
    from difflib import get_close_matches  # only a wrong name has to wait for it

    return get_close_matches(name, list(known), n=count, cutoff=likeness)
