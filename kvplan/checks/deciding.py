"""The line that decides: where in a file the reason of a finding stands.

A deployment's own keys come first. A line of the defaults is named only for what is wrong with the
default itself: it was changed there, or it can be nothing that kvplan knows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from kvplan.checks.baseline import Change
from kvplan.checks.check_file import CheckFile
from kvplan.checks.expectations import Bound, CountedWeights, Expectation, Fit, Place, StatedFigure
from kvplan.parallel import DEGREES
from kvplan.planner.plan import Plan
from kvplan.registry.yaml import Location

_GPUS = ("gpus", *DEGREES, "pipeline_partition")
_LOAD = ("context", "sequences", "kv_cache_dtype")
_WEIGHTS = ("quantization", "dtype", "draft_model", "max_loras", "model")
_MEMORY = ("gpu", "gpu_memory_utilization", "overhead", "kv_cache_memory_bytes")
_OF_FIGURE = {
    "min_sequences": ("context", "kv_cache_dtype", *_GPUS, *_MEMORY, *_WEIGHTS),
    "min_context": ("sequences", "kv_cache_dtype", *_GPUS, *_MEMORY, *_WEIGHTS),
    "max_gpus": (*_GPUS, *_LOAD, *_MEMORY, *_WEIGHTS),
    "max_bytes_per_token": ("kv_cache_dtype", "dtype", "model"),
    "min_headroom_percent": (*_LOAD, *_GPUS, *_MEMORY, *_WEIGHTS),
}
"""Keys that decide an expectation, the likeliest to be changed first."""


@dataclass(frozen=True)
class Lines:
    """Lines of one deployment of a file."""

    file: CheckFile
    index: int

    def _place(self, *keys: str | int) -> Location:
        return ("deployments", self.index, *keys)

    def _is_own(self, *keys: str | int) -> bool:
        """Whether the deployment itself has it, and not from the defaults."""
        lines = self.file.document.lines
        line = lines.get(self._place(*keys))
        return line is not None and line != lines.get(("defaults", *keys))

    @property
    def name(self) -> int:
        """Where the deployment says what it is called."""
        return self.file.line(self.index, "name")

    def own(self, keys: Iterable[str]) -> int:
        """The first of these keys that the deployment itself has; its name where it has none."""
        key = next((key for key in keys if self._is_own(key)), "name")
        return self.file.line(self.index, key)

    def of_changes(self, changes: Iterable[Change]) -> int | None:
        """A key that changed: the deployment's own before a default that did; None without any."""
        keys = [change.key for change in changes]
        own = next((key for key in keys if self._is_own(key)), None)
        lines = self.file.document.lines
        place = next((key for key in [own, *keys] if key and self._place(key) in lines), None)
        return self.file.line(self.index, place) if place else None

    def of_expectation(self, place: Place, expectation: Expectation, plan: Plan) -> int:
        """What decides whether it holds: its own line, or a key on which it depends."""
        if isinstance(expectation, Fit) and not plan.fits and not expectation.holds:
            return self.own(_of_fit(plan))
        if isinstance(expectation, CountedWeights):
            return self.own(("model",))
        if self._is_own(*place) or expectation.holds:
            return self.file.line(self.index, *place)
        if isinstance(expectation, StatedFigure):
            return self.own(_of_stated(expectation.stated.figure))
        return self.own(_OF_FIGURE[expectation.name] if isinstance(expectation, Bound) else _GPUS)

    def of_error(self, message: str) -> int:
        """The key that an error names, or whose value it does; a default's at the default."""
        document = self.file.document
        values = document.data["deployments"][self.index]
        keys = [str(key) for key in values if self._place(key) in document.lines]
        named = next((key for key in keys if re.search(rf"\b{re.escape(key)}\b", message)), None)
        valued = (key for key in keys if isinstance(values.get(key), str) and key != "name")
        quoted = next((key for key in valued if values[key] in message), None)
        return self.file.line(self.index, named or quoted or "model")


def _of_fit(plan: Plan) -> tuple[str, ...]:
    budget = plan.budget
    if budget.fits:
        return ("max_num_seqs", "sequences", *_GPUS)
    if not budget.has_room:
        return (*_GPUS, *_MEMORY, *_WEIGHTS)
    return (*_LOAD, *_GPUS, *_MEMORY, *_WEIGHTS)


def _of_stated(figure: str) -> tuple[str, ...]:
    if figure in ("bytes_per_token", "fixed_bytes_per_sequence"):
        return _OF_FIGURE["max_bytes_per_token"]
    if figure == "weights_bytes":
        return (*_WEIGHTS, *_GPUS)
    return (*_GPUS, *_LOAD, *_MEMORY, *_WEIGHTS)
