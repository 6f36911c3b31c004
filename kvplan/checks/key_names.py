"""Keys of a deployment as users write them, under the names that kvplan has for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from kvplan.checks.deployments import Deployment
from kvplan.errors import SpecError
from kvplan.registry.yaml import Document, Location

ALIASES = {
    "max_model_len": "context",
    "ctx": "context",
    "tp": "tensor_parallel_size",
    "pp": "pipeline_parallel_size",
    "dp": "data_parallel_size",
    "dcp": "decode_context_parallel_size",
    "pcp": "prefill_context_parallel_size",
    "ep": "enable_expert_parallel",
    "indexer_kv_dtype": "index_cache_dtype",
}
"""Other names of keys: vLLM's, and what the command line calls them too."""
_OPPOSITES = {"no_enable_prefix_caching": "enable_prefix_caching"}
"""Keys that are true where the other is false, as flags that begin with ``--no-`` are."""
_KEYS = frozenset(field.name for field in fields(Deployment))


def with_known_names(document: Document, path: Path) -> Document:
    """The document with every key of its defaults and deployments under kvplan's name.

    vLLM's files write ``max-model-len`` where its Python says ``max_model_len``; both are read.
    Raises SpecError for two names of the same thing in one mapping.
    """
    if not isinstance(document.data, dict):
        return document
    data, lines = dict(document.data), dict(document.lines)
    problems: list[str] = []
    for place, mapping in _mappings(data):
        renamed: dict[str, Any] = {}
        moved: dict[Location, Location] = {}
        for name, keys in _by_name(mapping).items():
            # What << brought in has no line of its own, and counts where nothing else is given.
            own = [key for key in keys if (*place, key) in lines] or keys
            if len(own) > 1:
                line, both = document.line((*place, own[-1])), " and ".join(own)
                problems.append(
                    f"{path}:{line}: {both} are two names of the same; give one of them"
                )
            renamed[name] = _value(own[-1], mapping[own[-1]])
            moved |= {(*place, key): (*place, name) for key in keys if key != name and key in own}
        _put(data, place, renamed)
        lines = _moved(lines, moved)
    if problems:
        raise SpecError(*problems)
    return Document(data, lines)


def _mappings(data: dict[str, Any]) -> Iterator[tuple[Location, dict[str, Any]]]:
    listed = data.get("deployments")
    parts: list[tuple[Location, Any]] = [(("defaults",), data.get("defaults"))]
    if isinstance(listed, list):
        parts += [(("deployments", index), part) for index, part in enumerate(listed)]
    yield from ((place, part) for place, part in parts if isinstance(part, dict))


def _by_name(mapping: dict[str, Any]) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for key in mapping:
        names.setdefault(_known_name(key), []).append(key)
    return names


def _known_name(key: str) -> str:
    spelt = key.replace("-", "_")
    name = (ALIASES | _OPPOSITES).get(spelt, spelt)
    return name if name in _KEYS else key


def _value(key: str, value: Any) -> Any:
    """The value under kvplan's name; what is no flag is left for the reading to refuse."""
    is_opposite = key.replace("-", "_") in _OPPOSITES and isinstance(value, bool)
    return not value if is_opposite else value


def _put(data: dict[str, Any], place: Location, mapping: dict[str, Any]) -> None:
    if len(place) == 1:
        data["defaults"] = mapping
    else:
        listed = list(data["deployments"])
        listed[int(place[1])] = mapping
        data["deployments"] = listed


def _moved(lines: dict[Location, int], moved: dict[Location, Location]) -> dict[Location, int]:
    """The lines with what lies below a renamed key under its new name."""
    if not moved:
        return lines
    return {
        (*moved[key], *place[len(key) :]) if (key := _above(place)) in moved else place: line
        for place, line in lines.items()
    }


def _above(place: Location) -> Location:
    """The key of a mapping in which the place lies."""
    return place[: 2 if place[:1] == ("defaults",) else 3]
