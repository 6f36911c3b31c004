"""Figures that were agreed on once, what they were made from, and how they differ since."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from kvplan import __version__
from kvplan.checks.deployments import Deployment
from kvplan.errors import SpecError
from kvplan.files import alone, read_text, write_whole
from kvplan.gpu import Gpu
from kvplan.json_text import parse_json
from kvplan.spec import ModelSpec

VERSION = 1
_MOST_BYTES = 64 << 20
_LEAST_FIGURE, _MOST_FIGURE = 1e-6, 1 << 128
"""No bytes, tokens or GPUs come near either; what is not a number lies between no bounds."""
_FIGURE_NAME = re.compile(r"\w{1,60}", re.ASCII)
_MOST_VERSION = 60  # characters
_MOST_NAME = 100

Lock = dict[str, dict[str, Any]]
"""Deployments by ``file#name``: what was ``asked``, ``figures``, digests of what they are
``made_from``, ``kvplan``."""


Asked = str | int | float | bool | None
"""The value of a deployment's key, a list as it is written on the command line."""


@dataclass(frozen=True)
class Drift:
    """A figure that is not what it was, and why; a None is a figure that has no bound."""

    figure: str
    before: int | float | None
    after: int | float | None
    cause: str


@dataclass(frozen=True)
class Change:
    """A key of a deployment that is not what it was; None is one that is not given."""

    key: str
    before: Asked
    after: Asked


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
    given = {key: value for key, value in asdict(deployment).items() if key != "expect"}
    made_from = {"spec": asdict(spec), "GPU": asdict(gpu), "deployment": given}
    if drafter is not None:
        made_from["draft model"] = asdict(drafter)
    return {
        "asked": {
            key: ",".join(map(str, value)) if isinstance(value, tuple) else value
            for key, value in given.items()
            if key != "name" and value is not None
        },
        "figures": figures,
        "made_from": {name: _digest(data) for name, data in made_from.items()},
        "kvplan": __version__,
    }


def _digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest()[:16]


def changes(old: dict[str, Any], new: dict[str, Any]) -> tuple[Change, ...]:
    """Keys of the deployment that changed; none are known of a lock that does not keep them."""
    if "asked" not in old or "asked" not in new:
        return ()
    before, after = old["asked"], new["asked"]
    keys = {**after, **before}
    return tuple(
        Change(key, before.get(key), after.get(key))
        for key in sorted(keys, key=_order)
        if before.get(key) != after.get(key)
    )


def _order(key: str) -> int:
    return _KEYS.index(key) if key in _KEYS else len(_KEYS)


_KEYS = [field.name for field in fields(Deployment)]


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
    return _lock(read_text(path, _MOST_BYTES, "lock file"), path)


def _lock(text: str, path: Path) -> Lock:
    lock = parse_json(text, str(path), ("deployments",))
    listed = lock.get("deployments") if isinstance(lock, dict) else None
    if not isinstance(listed, dict):
        raise SpecError(f"{path}: not a lock file; --update-baseline writes one")
    version = lock.get("schema_version")
    if type(version) is not int or version != VERSION:
        raise SpecError(f"{path}: a lock file of another version; delete it and write it anew")
    for name, data in listed.items():
        if not _is_entry(data):
            raise SpecError(
                f"{path}: {ascii(name)[1:-1][:_MOST_NAME]}: has no figures and made_from as "
                "--update-baseline writes them; delete the file and write it anew"
            )
    return dict(listed)


def _is_entry(data: Any) -> bool:
    if not isinstance(data, dict) or not isinstance(data.get("kvplan"), str):
        return False
    parts = (data.get("figures"), data.get("made_from"))
    if not all(isinstance(part, dict) for part in parts) or len(data["kvplan"]) > _MOST_VERSION:
        return False
    return _is_asked(data.get("asked", {})) and all(
        _FIGURE_NAME.fullmatch(name) and _is_figure(value)
        for name, value in data["figures"].items()
    )


def _is_asked(data: Any) -> bool:
    """Whether these can be the keys of a deployment, which locks of older kvplans do not keep."""
    return isinstance(data, dict) and all(
        key in _KEYS and (_is_figure(value) or type(value) in (bool, str))
        for key, value in data.items()
    )


def _is_figure(value: Any) -> bool:
    if type(value) not in (int, float):
        return value is None
    return bool(value == 0 or _LEAST_FIGURE < value < _MOST_FIGURE)


def update_lock(path: Path, lock: Lock, files: Iterable[Path], folder: Path) -> list[str]:
    """The lock file with these deployments in place of all that it had of ``files``.

    Deployments of other files stay as they are, so that two that are checked at the same time, or
    one after the other, do not lose one another's; names of those files are returned. Nothing is
    written over what is not a lock file. Raises SpecError or UsageError.
    """
    replaced = tuple(key_of(file, folder, "") for file in files)
    with alone(path):
        text = read_text(path, _MOST_BYTES, "lock file") if _exists(path) else ""
        known = _lock(text, path) if text.strip() else {}
        kept = {name: data for name, data in known.items() if not name.startswith(replaced)}
        document = {
            "schema_version": VERSION,
            "kvplan": __version__,
            "deployments": kept | lock,
        }
        write_whole(path, json.dumps(document, indent=2, sort_keys=True) + "\n")
    return sorted({name.partition("#")[0] for name in kept})


def _exists(path: Path) -> bool:
    return os.path.lexists(os.path.realpath(path))
