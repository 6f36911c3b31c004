"""Figures that were agreed on once, what they were made from, and how they differ since."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kvplan import __version__
from kvplan.checks.deployments import Deployment
from kvplan.errors import SpecError
from kvplan.files import read_text, write_whole
from kvplan.gpu import Gpu
from kvplan.spec import ModelSpec

VERSION = 1
_MOST_BYTES = 64 << 20

Lock = dict[str, dict[str, Any]]
"""Deployments by ``file#name``: ``figures``, digests of what they are ``made_from``, ``kvplan``."""


@dataclass(frozen=True)
class Drift:
    """A figure that is not what it was, and why; a None is a figure that has no bound."""

    figure: str
    before: int | float | None
    after: int | float | None
    cause: str


def key_of(file: Path, folder: Path, deployment: str) -> str:
    """The name of a deployment in a lock that lies in ``folder``, the same on every machine."""
    return f"{Path(os.path.relpath(file, folder)).as_posix()}#{deployment}"


def entry(
    deployment: Deployment,
    spec: ModelSpec,
    gpu: Gpu,
    figures: dict[str, Any],
    drafter: ModelSpec | None = None,
) -> dict[str, Any]:
    """What a lock keeps of one deployment."""
    asked = {key: value for key, value in asdict(deployment).items() if key != "expect"}
    made_from = {"spec": asdict(spec), "GPU": asdict(gpu), "deployment": asked}
    if drafter is not None:
        made_from["draft model"] = asdict(drafter)
    return {
        "figures": figures,
        "made_from": {name: _digest(data) for name, data in made_from.items()},
        "kvplan": __version__,
    }


def _digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest()[:16]


def drifts(old: dict[str, Any], new: dict[str, Any]) -> Iterator[Drift]:
    """Every figure of an entry that changed, and of what it is made from that which changed too."""
    causes = [
        f"{what} changed"
        for what, digest in new["made_from"].items()
        if old["made_from"].get(what) != digest
    ]
    if not causes:
        causes = [f"rule changed from kvplan {old['kvplan']} to {new['kvplan']}"]
    figures = {"gpus": None, **old["figures"], **new["figures"]}  # what costs money comes first
    for figure in figures:
        before, after = old["figures"].get(figure), new["figures"].get(figure)
        if before != after:
            yield Drift(figure, before, after, ", ".join(causes))


def read_lock(path: Path) -> Lock:
    """The deployments of a lock file. Raises SpecError for anything else."""
    text = read_text(path, _MOST_BYTES, "lock file")
    try:
        lock = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{path}: not JSON: {error}") from None
    listed = lock.get("deployments") if isinstance(lock, dict) else None
    if not isinstance(listed, dict):
        raise SpecError(f"{path}: not a lock file; --update-baseline writes one")
    if lock.get("schema_version") != VERSION:
        raise SpecError(f"{path}: a lock file of another version; write it anew")
    for name, data in listed.items():
        if not _is_entry(data):
            raise SpecError(f"{path}: {name}: has no figures and made_from; write the file anew")
    return dict(listed)


def _is_entry(data: Any) -> bool:
    if not isinstance(data, dict) or not isinstance(data.get("kvplan"), str):
        return False
    parts = (data.get("figures"), data.get("made_from"))
    if not all(isinstance(part, dict) for part in parts):
        return False
    return all(value is None or type(value) in (int, float) for value in data["figures"].values())


def write_lock(path: Path, lock: Lock) -> None:
    """The lock file, whole or not at all. Raises UsageError."""
    document = {"schema_version": VERSION, "kvplan": __version__, "deployments": lock}
    write_whole(path, json.dumps(document, indent=2, sort_keys=True) + "\n")
