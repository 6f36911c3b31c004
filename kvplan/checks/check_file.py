"""A file of deployments: read strictly, its defaults checked once and then spread."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from kvplan.checks.deployments import Defaults, Deployment, Deployments
from kvplan.checks.key_names import with_known_names
from kvplan.errors import SpecError, nearest
from kvplan.registry.validation import MOST_PROBLEMS, validate
from kvplan.registry.yaml import MAX_NODES, Document, Location, quoted, read_yaml

MOST_DEPLOYMENTS = 2_000
"""Of one file; a check takes several."""

_NEEDED = ("name", "model", "gpu")
"""Keys that a deployment has to have, and defaults need not."""


@dataclass(frozen=True)
class CheckFile:
    """A file's deployments, and where in it each of them stands."""

    path: Path
    document: Document
    deployments: tuple[Deployment, ...]

    def line(self, index: int, *place: str | int) -> int:
        """Line of a part of a deployment."""
        return self.document.line(("deployments", index, *place))


def read_deployments(path: Path) -> CheckFile:
    """The deployments of this file. Raises SpecError with every problem, file and line."""
    written = with_known_names(read_yaml(path, anchors=True), path)
    document = _spread_defaults(written, path)
    deployments = validate(document, Deployments, path).deployments
    _check_nulls("deployments", document, path)
    _check_names(deployments, document, path)
    return CheckFile(path, document, deployments)


def _spread_defaults(document: Document, path: Path) -> Document:
    """The document with its defaults in every deployment.

    What no deployment could have is said once, where it stands among the defaults.
    """
    defaults, listed = document.data.get("defaults"), document.data.get("deployments")
    if not isinstance(defaults, dict | None):
        line = document.line(("defaults",))
        raise SpecError(f"{path}:{line}: defaults: has to be a mapping")
    if defaults:
        _check_defaults(defaults, document, path)
    if not isinstance(listed, list):
        return document
    _check_size(defaults or {}, len(listed), document, path)
    if not defaults:
        return document
    _place_defaults(document, len(listed))
    deployments = [_over(defaults, own) for own in listed]
    return Document({**document.data, "deployments": deployments}, document.lines)


def _check_defaults(defaults: dict[str, Any], document: Document, path: Path) -> None:
    known = [field.name for field in fields(Deployment) if field.name != "name"]
    unknown = [key for key in defaults if key not in known]
    problems = [
        f"{path}:{document.line(('defaults', key))}: unknown key {quoted(key)} in defaults"
        + "".join(f"; did you mean {near}?" for near in nearest(key, known, 1, 0.5))
        for key in unknown[:MOST_PROBLEMS]
    ]
    _refuse(problems, len(unknown), path)
    filled = {"defaults": {**dict.fromkeys(_NEEDED, "-"), **defaults}}
    validate(Document(filled, document.lines), Defaults, path)
    _check_nulls("defaults", document, path)


def _check_size(defaults: dict[str, Any], count: int, document: Document, path: Path) -> None:
    """Defaults count in every deployment, so that nothing small can unfold into something large."""
    if count > MOST_DEPLOYMENTS:
        raise SpecError(
            f"{path}:{document.line(('deployments',))}: {count:,} deployments, more than "
            f"{MOST_DEPLOYMENTS:,}; write several files, which check takes together"
        )
    values = _values(defaults)
    if values * count > MAX_NODES:
        raise SpecError(
            f"{path}:{document.line(('defaults',))}: defaults of {values:,} values for "
            f"{count:,} deployments make more than {MAX_NODES:,}; write several files, which "
            "check takes together"
        )


def _values(data: Any) -> int:
    """Values of the data and of all that is in it."""
    if isinstance(data, dict):
        return 1 + sum(map(_values, data.values()))
    return 1 + sum(map(_values, data)) if isinstance(data, list) else 1


def _place_defaults(document: Document, deployments: int) -> None:
    """What a deployment has from the defaults stands where the defaults are."""
    places = [place[1:] for place in document.lines if place[:1] == ("defaults",) and place[1:]]
    for index in range(deployments):
        for place in places:
            line = document.line(("defaults", *place))
            document.lines.setdefault(("deployments", index, *place), line)


def _over(defaults: dict[str, Any], own: Any) -> Any:
    if not isinstance(own, dict):
        return own
    merged = _merged(defaults, own)
    both = [source.get("expect") for source in (defaults, own)]
    if all(isinstance(expect, dict) for expect in both):
        merged["expect"] = _merged(*both)  # type: ignore[arg-type]
    return merged


def _merged(defaults: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Both, the own keys first; null takes a default away."""
    taken_away = {key for key, value in own.items() if value is None and key in defaults}
    return {key: value for key, value in {**defaults, **own}.items() if key not in taken_away}


def _nulls(value: Any, place: Location) -> Iterator[Location]:
    """The places of every null in the value."""
    if value is None:
        yield place
    items: Iterable[tuple[str | int, Any]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, each in items:
        yield from _nulls(each, (*place, key))


def _check_nulls(part: str, document: Document, path: Path) -> None:
    """A null that takes no default away is a value that is not there, not a key that is not."""
    places = list(_nulls(document.data[part], (part,)))
    problems = [
        f"{path}:{document.line(place)}: {'.'.join(map(str, place))}: is null; "
        "give it a value, or leave it out"
        for place in places[:MOST_PROBLEMS]
    ]
    _refuse(problems, len(places), path)


def _refuse(problems: list[str], count: int, path: Path) -> None:
    """Raises SpecError with these problems of so many, where there are any."""
    more = [f"{path}: and {count - len(problems):,} more"] if count > len(problems) else []
    if problems:
        raise SpecError(*problems, *more)


def _check_names(deployments: tuple[Deployment, ...], document: Document, path: Path) -> None:
    seen: dict[str, int] = {}
    for index, deployment in enumerate(deployments):
        line = document.line(("deployments", index, "name"))
        if deployment.name in seen:
            raise SpecError(
                f"{path}:{line}: deployment {quoted(deployment.name)} is there twice "
                f"(first on line {seen[deployment.name]})"
            )
        seen[deployment.name] = line
