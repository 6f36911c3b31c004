"""Models from outside kvplan, with the figures that an import has to give (models.jsonl).

classes.jsonl holds those whose class is not the plain language model of its family.

A line has the keys of a config.json that decide something, or that catch readers out, and under
``source`` where the figures come from: a class of transformers, built, for the parameters; caches
worked out by hand or as transformers fills them; published sizes. Caches are in bf16, index keys
as engines store them, convolution tails without the newest token (as in vLLM), states in fp32.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import kvplan

_LINES = [
    line
    for name in ("models", "classes")
    for line in (Path(__file__).parent / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
]

MODELS: dict[str, dict[str, Any]] = {model["model"]: model for model in map(json.loads, _LINES)}


@cache
def spec_of(name: str) -> kvplan.ModelSpec:
    """The spec that kvplan makes of this model's files."""
    with TemporaryDirectory() as folder:
        for key in ("config", "hf_quant_config"):
            if key in MODELS[name]:
                text = json.dumps(spelt_out(MODELS[name][key]))
                (Path(folder) / f"{key}.json").write_text(text, encoding="utf-8")
        return kvplan.load(folder)


def changed(name: str, changes: dict[str, Any]) -> dict[str, Any]:
    """This model's config.json with keys set anew, in its sections too; None takes a key away."""
    config: dict[str, Any] = spelt_out(MODELS[name]["config"])
    return _merged(config, changes)


def _merged(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = {key: value for key, value in config.items() if changes.get(key, 0) is not None}
    for key, value in changes.items():
        inner = config.get(key)
        if isinstance(value, dict) and isinstance(inner, dict):
            merged[key] = _merged(inner, value)
        elif value is not None:
            merged[key] = value
    return merged


def spelt_out(data: Any) -> Any:
    """``mamba*3`` three times over, ``{0-2}`` in names one by one."""
    if isinstance(data, dict):
        return {name: spelt_out(value) for key, value in data.items() for name in _names(key)}
    if isinstance(data, list):
        texts = (_names(item) if isinstance(item, str) else [spelt_out(item)] for item in data)
        return [item for items in texts for item in items]
    return data


def _names(text: str) -> list[str]:
    """``layers.{0-2,5}.mlp`` is one name for each of these layers, ``mamba*3`` three in a row."""
    repeated = re.fullmatch(r"(\w+)\*(\d+)", text)
    if repeated:
        return [repeated[1]] * int(repeated[2])
    numbered = re.search(r"\{([\d,-]+)\}", text)
    if numbered is None:
        return [text]
    bounds = [run.partition("-") for run in numbered[1].split(",")]
    numbers = [n for first, _, last in bounds for n in range(int(first), int(last or first) + 1)]
    return [text.replace(numbered[0], str(number)) for number in numbers]
