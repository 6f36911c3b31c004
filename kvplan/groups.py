"""Groups of a model's layers that keep the same caches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from kvplan.kinds import AnyKind, CacheKind, kind_class
from kvplan.limits import Input, Limit, Text

MAX_LAYERS = 10_000


@dataclass(frozen=True, kw_only=True)
class Group(Input):
    """Layers that keep the same caches: one, several (Falcon-H1), or none (an MLP layer).

    A single cache may stand inline: ``{layers: 61, kind: mla, ...}``.
    """

    name: Text | None = None
    layers: Annotated[int, Limit(gt=0, le=MAX_LAYERS)] | None = None
    caches: Annotated[tuple[CacheKind, ...], AnyKind()]


def with_cache_lists(data: dict[str, Any]) -> dict[str, Any]:
    """A spec's data in which every group lists its caches, the single inline one too."""
    groups = {key: data[key] for key in ("groups", "draft") if isinstance(data.get(key), list)}
    return {**data, **{key: [_with_list(group) for group in groups[key]] for key in groups}}


def _with_list(group: Any) -> Any:
    if not isinstance(group, dict) or "caches" in group or set(group) <= {"name", "layers"}:
        return group
    own = {key: group[key] for key in ("name", "layers") if key in group}
    cache = {key: value for key, value in group.items() if key not in own}
    return {**own, "caches": [cache]}


def group_from(data: dict[str, Any]) -> Group:
    """A group in data that is known to be valid."""
    caches = (kind_class(cache["kind"])(**cache) for cache in data["caches"])
    return Group(name=data.get("name"), layers=data.get("layers"), caches=tuple(caches))
