"""``kvplan`` and ``python -m kvplan``: what a signal does is settled before anything is imported.

Python's own answer to Ctrl-C is a traceback of whatever was being imported.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # typing.TYPE_CHECKING would be an import
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any, NoReturn

    Handler = Callable[[int, FrameType | None], None]


def main() -> NoReturn:
    """Run the command line. A signal is the exit code 128 and its number, without a word.

    Once the answer is there, its exit code stands, whatever comes while Python ends.
    """
    code = 70
    try:
        _open_closed_streams()
        _on_signals(_leave)
        sys.unraisablehook = _unraisable
        try:
            from kvplan.cli.app import main as run

            _on_signals(_unwind)
            run()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 70
        _on_signals(None)
    except KeyboardInterrupt as interrupt:
        os._exit(_exit_code(interrupt))
    except Exception as error:  # noqa: BLE001 - a traceback would exit 1: "does not fit"
        _say(f"error: kvplan cannot run: {type(error).__name__}: {error}")
    sys.exit(code)


def _open_closed_streams() -> None:
    """Keep 0, 1 and 2 taken, so that no file that is opened later gets what others print."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def _on_signals(handler: Handler | None) -> None:
    """Answer with this, or not at all. What is ignored (``nohup``, a shell's ``&``) stays so."""
    import signal

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler or signal.SIG_IGN)


def _leave(number: int, _frame: FrameType | None) -> None:
    os._exit(128 + number)


def _unwind(number: int, _frame: FrameType | None) -> None:
    """Let what is half done be cleared away; the next signal does not wait for that."""
    from kvplan.errors import Interrupted

    _on_signals(_leave)
    raise Interrupted(128 + number)


def _unraisable(unraisable: Any) -> None:
    """Python drops what is raised while it frees an object, and goes on; a signal ends kvplan."""
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        os._exit(_exit_code(unraisable.exc_value))
    sys.__unraisablehook__(unraisable)


def _exit_code(interrupt: KeyboardInterrupt) -> int:
    return getattr(interrupt, "exit_code", 130)


def _say(line: str) -> None:
    try:
        os.write(2, f"{' '.join(line.split())}\n".encode("ascii", "backslashreplace"))
    except OSError:
        return


if __name__ == "__main__":
    main()
