"""Configs that nobody should have written: answered or refused, and never anything else."""

from __future__ import annotations

import copy
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

from kvplan.calc import footprint
from kvplan.errors import KvplanError
from kvplan.hf import read_config, to_yaml
from tests.hf.configs import write
from tests.hf.models import MODELS

WILD: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    3,
    10**18,
    10**400,
    1.5,
    float("inf"),
    float("nan"),
    "",
    "128",
    "full_attention",
    "\ud800",
    [],
    [1],
    [None],
    {},
    {"a": 1},
    [["x"]],
    ["re:((a+)+)+$", "re:[", "model.layers.1*", "*" * 50, "re:" + "a?" * 90],
]


def mutated(draw: random.Random, config: dict[str, Any]) -> str:
    """The config with one to three changes, and now and then cut short."""
    changed = json.loads(json.dumps(config))
    for _ in range(draw.randint(1, 3)):
        place = changed
        nested = [value for value in changed.values() if isinstance(value, dict) and value]
        if nested and draw.random() < 0.6:
            place = draw.choice(nested)
        if not place:
            continue
        key = draw.choice(list(place))
        if draw.random() < 0.3:
            del place[key]
        elif isinstance(place[key], list) and place[key] and draw.random() < 0.5:
            place[key][draw.randrange(len(place[key]))] = copy.deepcopy(draw.choice(WILD))
        else:
            place[key] = copy.deepcopy(draw.choice(WILD))
    text = json.dumps(changed)
    return text[: draw.randrange(len(text))] if draw.random() < 0.05 else text


def test_mutated_configs_are_answered_or_refused(tmp_path: Path) -> None:
    """Whatever is in the file: a spec that can be sized and written, or a clean refusal."""
    draw = random.Random(20261121)  # noqa: S311
    configs = [model["config"] for model in MODELS.values()]
    outcomes = Counter[str]()
    for _ in range(1_000):
        text = mutated(draw, draw.choice(configs))
        try:
            spec, provenance = read_config(write(tmp_path, text))
            footprint(spec, 4_096, kv_cache_dtype="bf16")
            assert to_yaml(spec, provenance)
        except KvplanError as error:
            outcomes[f"exit code {error.exit_code}"] += 1
            str(error).encode()
        else:
            outcomes["counted" if spec.parameters else "not counted"] += 1
            assert spec.weights_bytes is None or spec.weights_bytes > 0
    assert set(outcomes) == {"exit code 2", "exit code 3", "counted", "not counted"}
