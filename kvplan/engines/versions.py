"""Engines and their versions, a row each: what ``--engine`` may name, and what each row answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from kvplan.errors import RefusedError, UsageError, nearest


@dataclass(frozen=True, kw_only=True)
class EngineVersion:
    """One set of rules of one engine.

    They are those of ``version`` and, where ``since`` is given, of every release from that one on.
    ``answers`` is what they are known for, in words.
    """

    name: str
    version: str | None = None
    since: str | None = None
    answers: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        """As ``--engine`` has it: ``vllm@0.33.0``."""
        return self.name if self.version is None else f"{self.name}@{self.version}"

    def covers(self, version: str) -> bool:
        """Whether these are the rules of this release; ``0.33`` means any patch that is known."""
        asked = _parts(version)
        first, last = _parts(self.since or self.version or ""), _parts(self.version or "")
        return first[: len(asked)] <= asked <= last[: len(asked)]


NONE, VLLM = "none", "vllm"
ENGINE_VERSIONS = (
    EngineVersion(
        name=NONE,
        answers=("caches and weights to the byte", "layouts", "an estimate of a decode step"),
    ),
    EngineVersion(
        name=VLLM,
        version="0.33.0",
        answers=(
            "blocks and their sizes",
            "tokens and concurrency as it prints them",
            "what it refuses",
            "its command line (--emit)",
        ),
    ),
)
"""The newest version of each engine first."""
ENGINES = tuple(dict.fromkeys(row.name for row in ENGINE_VERSIONS))


@lru_cache
def engine_version(engine: str) -> EngineVersion:
    """The rules that ``vllm``, ``vllm@0.33`` or ``vllm@0.33.0`` means; no version is the newest.

    Raises UsageError for an engine that there is none of, RefusedError for a version whose rules
    are not known.
    """
    if not isinstance(engine, str):
        raise UsageError(f"engine has to be a name, not {engine!r}", f"one of: {_known()}")
    name, at, version = engine.strip().partition("@")
    rows = [row for row in ENGINE_VERSIONS if row.name == name.lower()]
    if not rows:
        near = nearest(name.lower(), ENGINES)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UsageError(f"engine {engine[:60]!r} is not known", f"{hint}one of: {_known()}")
    if not at:
        return rows[0]
    if rows[0].version is None:
        raise UsageError(f"engine {name} has no versions", f"write {rows[0].name}")
    version = version.lower().removeprefix("v")
    if not _parts(version):
        raise UsageError(
            f"engine {engine[:60]!r} names no version", f"write {rows[0].full_name}: digits"
        )
    for row in rows:
        if row.covers(version):
            return row if row.since is None else replace(row, version=version)
    raise RefusedError(
        f"the rules of {rows[0].name} {version} are not known", f"known are: {_known(rows[0].name)}"
    )


def _known(name: str | None = None) -> str:
    """Engines with their versions, or the versions of one."""
    rows = [row for row in ENGINE_VERSIONS if name in (None, row.name)]
    return ", ".join(
        f"{row.name}@{row.since} to {row.version}" if row.since else row.full_name for row in rows
    )


def _parts(version: str) -> tuple[int, ...]:
    """``0.33.0`` as numbers; empty for what is no version."""
    parts = version.split(".")
    digits = all(part.isascii() and part.isdigit() and len(part) < _LONGEST for part in parts)
    return tuple(map(int, parts)) if digits else ()


_LONGEST = 6
