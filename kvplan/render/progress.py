"""A bar on the terminal that says what is being done, once it takes longer than a moment."""

from __future__ import annotations

from contextlib import suppress
from threading import Timer
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

from kvplan.units import visible

_MOMENT_SECONDS = 1.0


class Progress:
    """Shows the step it was last told of; nothing where stderr is not a terminal, nor at once."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._bar = RichProgress(
            BarColumn(bar_width=20),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=1.0)
        self._timer = Timer(_MOMENT_SECONDS, self._bar.start)
        self._timer.daemon = True

    def tell(self, step: str, done: float) -> None:
        """What is being done from now on, and the share of the whole that is done."""
        with suppress(OSError):  # a terminal that went away; the measurement goes on
            self._bar.update(self._task, description=visible(step), completed=done)

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        self._timer.join()  # it may have begun to start the bar
        with suppress(OSError):
            self._bar.stop()
