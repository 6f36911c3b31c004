"""Layers in groups as a spec writes them, and where each figure came from."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from kvplan.hf.blocks.base import Cache, Model, kept
from kvplan.hf.config import Figure, Word, printable

Provenance = dict[tuple[str | int, ...], str]
"""Where each figure came from, by its place in the spec: ("groups", 0, "caches", 0, "head_dim")."""

Caches = tuple[Cache, ...]
"""What one layer keeps."""

_SHORT = {
    "full_attention": "full",
    "sliding_window": "sliding",
    "chunked_local": "chunked",
    "mla": "mla",
    "sliding_mla": "sliding",
    "mamba1": "mamba",
    "mamba2": "mamba",
    "gated_delta_net": "linear",
    "kimi_delta_attention": "linear",
    "lightning_attention": "lightning",
    "rg_lru": "recurrent",
    "mlstm": "mlstm",
    "rwkv4": "rwkv",
    "rwkv": "rwkv",
    "short_conv": "conv",
    "state": "state",
    "cross_attention": "cross",
    "kv_shared": "shared",
    "latent_window": "window",
    "index_keys": "indexed",
}

_COMPRESSED = {4: "csa", 128: "hca"}


def grouped(model: Model) -> dict[str, Any]:
    """Groups with their counts where each stands in one run, else named groups and a pattern."""
    layers = model.caches()
    runs = [(layer, len(list(same))) for layer, same in groupby(layers)]
    draft = [
        _group(layer, None, Figure(len(list(same)), "draft layers"))
        for layer, same in groupby(map(kept, model.draft))
    ]
    extra = {"draft": draft} if draft else {}
    if len({layer for layer, _ in runs}) == len(runs):
        origin = model.layers_key if len(runs) == 1 else "layers in one run"
        return {"groups": [_group(layer, None, Figure(n, origin)) for layer, n in runs], **extra}
    names = _names(dict.fromkeys(layers))
    cycle = _smallest_cycle([names[layer] for layer in layers])
    return {
        "layers": Figure(len(layers), model.layers_key),
        "pattern": _run_lengths(cycle),
        "groups": [_group(layer, name, None) for layer, name in names.items()],
        **extra,
    }


def _group(layer: Caches, name: str | None, layers: Figure | None) -> dict[str, Any]:
    group: dict[str, Any] = {"caches": [dict(cache) for cache in layer]}
    if layers is not None:
        group["layers"] = layers
    if name is not None:
        group["name"] = name
    return group


def _names(layers: Iterable[Caches]) -> dict[Caches, str]:
    """A short name for each unlike layer."""
    names: dict[Caches, str] = {}
    for layer in layers:
        caches = [dict(cache) for cache in layer]
        # Names of arXiv 2606.19348: compressed sparse and heavily compressed attention.
        ratios = [c["compress_ratio"] for c in caches if c["kind"] == "compressed_kv"]
        kinds = dict.fromkeys(_SHORT[str(c["kind"])] for c in caches if c["kind"] in _SHORT)
        base = _COMPRESSED.get(int(ratios[0]), "compressed") if ratios else "-".join(kinds)
        names[layer] = _free(base or "none", set(names.values()))
    return names


def _free(base: str, taken: set[str]) -> str:
    if base not in taken:
        return base
    return next(name for n in range(2, 20_000) if (name := f"{base}-{n}") not in taken)


def _smallest_cycle(names: list[str]) -> list[str]:
    """The shortest run of names that gives all layers when repeated, the last one cut short.

    Prefix function of Knuth, Morris and Pratt: linear in the number of layers.
    """
    border = [0] * len(names)
    for index in range(1, len(names)):
        length = border[index - 1]
        while length and names[index] != names[length]:
            length = border[length - 1]
        border[index] = length + (names[index] == names[length])
    return names[: len(names) - border[-1]]


def _run_lengths(names: list[str]) -> list[str]:
    runs = [(name, len(list(same))) for name, same in groupby(names)]
    return [name if n == 1 else f"{name}*{n}" for name, n in runs]


def origins(data: Any, place: tuple[str | int, ...] = ()) -> Provenance:
    """Where every figure in the data came from."""
    if isinstance(data, Figure | Word):
        return {place: printable(data.origin)} if data.origin else {}
    items: Iterable[tuple[str | int, Any]] = ()
    if isinstance(data, dict):
        items = data.items()
    elif isinstance(data, list):
        items = enumerate(data)
    return {at: text for key, value in items for at, text in origins(value, (*place, key)).items()}


def bare(data: Any) -> Any:
    """The data in plain numbers and texts."""
    if isinstance(data, dict):
        return {key: bare(value) for key, value in data.items()}
    if isinstance(data, list):
        return [bare(value) for value in data]
    if isinstance(data, Figure):
        return int(data)
    return str(data) if isinstance(data, Word) else data
