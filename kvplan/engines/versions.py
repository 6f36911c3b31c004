"""Engines and their versions, a row each: what ``--engine`` may name, and what each row answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from kvplan.errors import RefusedError, UsageError, nearest


@dataclass(frozen=True, kw_only=True)
class EngineVersion:
    """One version of an engine, or several that are listed together.

    ``earlier`` are the releases before ``version`` in the same row, oldest first. ``answers`` is
    what they are known for, in words.
    """

    name: str
    version: str | None = None
    earlier: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        """As ``--engine`` has it: ``vllm@0.33.0``."""
        return self.name if self.version is None else f"{self.name}@{self.version}"

    @property
    def full_names(self) -> tuple[str, ...]:
        """The names of all its releases, the newest first."""
        return tuple(f"{self.name}@{release}" for release in self.releases)

    @property
    def since(self) -> str | None:
        """The first release of the row; None where it is the only one."""
        return self.earlier[0] if self.earlier else None

    @property
    def releases(self) -> tuple[str, ...]:
        """All releases of the row, the newest first."""
        return () if self.version is None else (self.version, *reversed(self.earlier))

    def release(self, version: str) -> str | None:
        """The newest release that this text means: ``0.20`` is 0.20.2; None where there is none."""
        asked = release_number(version)
        return next((r for r in self.releases if release_number(r)[: len(asked)] == asked), None)


DEFAULT_UTILIZATION = 0.92  # vLLM 0.33.0's gpu_memory_utilization
_LESS_USED_SHARE, _MORE_USED = 0.9, (0, 20)
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
    EngineVersion(
        name=VLLM,
        version="0.32.0",
        earlier=(
            *("0.9.1", "0.9.2", "0.10.0", "0.10.1.1", "0.10.2", "0.11.0", "0.11.1", "0.11.2"),
            *("0.12.0", "0.13.0", "0.14.0", "0.14.1", "0.15.1", "0.16.0", "0.17.0", "0.17.1"),
            *("0.18.0", "0.18.1", "0.19.0", "0.19.1", "0.20.0", "0.20.1", "0.20.2", "0.21.0"),
            *("0.22.0", "0.22.1", "0.23.0", "0.24.0", "0.25.0", "0.25.1", "0.26.0", "0.27.0"),
            *("0.27.1", "0.28.0", "0.29.0", "0.30.0", "0.31.0"),
        ),
        answers=(
            "blocks and their sizes",
            "tokens and concurrency as it printed them",
            "weights and memory before start-up as in 0.33.0",
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
    if not release_number(version):
        raise UsageError(
            f"engine {engine[:60]!r} names no version", f"write {rows[0].full_name}: digits"
        )
    for row in rows:
        release = row.release(version)
        if release is not None:
            return row if release == row.version else replace(row, version=release, earlier=())
    raise RefusedError(
        f"the rules of {rows[0].name} {version} are not known",
        f"the nearest is {_nearest(version, rows)}; known are: {_known(rows[0].name)}",
    )


def _nearest(version: str, rows: list[EngineVersion]) -> str:
    """The last release before this one; the oldest where it is older than all."""
    releases = sorted((r for row in rows for r in row.releases), key=release_number)
    before = [r for r in releases if release_number(r) <= release_number(version)]
    return f"{rows[0].name}@{(before or releases[:1])[-1]}"


def default_utilization(engine: str) -> float:
    """Share of a GPU that is used where nobody says: vLLM's gpu_memory_utilization.

    0.9 before 0.20 (config/cache.py). Raises as ``engine_version``.
    """
    version = engine_version(engine).version
    if version is not None and release_number(version) < _MORE_USED:
        return _LESS_USED_SHARE
    return DEFAULT_UTILIZATION


def _known(name: str | None = None) -> str:
    """Engines with their versions, or the versions of one."""
    rows = [row for row in ENGINE_VERSIONS if name in (None, row.name)]
    return ", ".join(
        f"{row.name}@{row.since} to {row.version}" if row.since else row.full_name for row in rows
    )


def release_number(version: str) -> tuple[int, ...]:
    """``0.33.0`` as numbers; empty for what is no version."""
    parts = version.split(".")
    digits = all(part.isascii() and part.isdigit() and len(part) < _LONGEST for part in parts)
    return tuple(map(int, parts)) if digits else ()


_LONGEST = 6
