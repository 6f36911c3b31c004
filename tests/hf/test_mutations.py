"""Configs that nobody should have written: answered or refused, and never anything else."""

from __future__ import annotations

import copy
import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kvplan.calc import footprint
from kvplan.errors import KvplanError
from kvplan.hf import read_config, to_yaml
from kvplan.registry.names import read_model
from tests.hf.configs import REFERENCE, sizes, write
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
    codes: set[int] = set()
    for _ in range(1_000):
        text = mutated(draw, draw.choice(configs))
        try:
            spec, provenance = read_config(write(tmp_path, text))
            footprint(spec, 4_096, kv_cache_dtype="bf16")
            assert to_yaml(spec, provenance)
        except KvplanError as error:
            codes.add(error.exit_code)
            str(error).encode()
    assert codes == {2, 3}


def reference_configs() -> list[dict[str, Any]]:
    """The real configs, where they are at hand."""
    return [
        json.loads(path.read_text()) for path in sorted(REFERENCE.glob("hf-configs*/*/config.json"))
    ]


@pytest.mark.skipif(not REFERENCE.exists(), reason="the reference configs are not at hand")
def test_every_reference_config_is_equal(tmp_path: Path) -> None:
    """132 real and reconstructed configs, to the byte, and written and read back the same.

    Two rules differ from the reference's own columns: an index key of DeepSeek sparse attention
    is 132 B where the file counts 256, and MiniMax-M3's is 256; recurrent state is fp32.
    """
    known = json.loads((REFERENCE / "kv-arithmetic.json").read_text())
    wrong = []
    for path in sorted(REFERENCE.glob("hf-configs*/*/config.json")):
        row = known[path.parent.name]
        index = row["idx_per_tok"] * (1 if row["model_type"] == "minimax_m3" else 132 / 256)
        spec, provenance = read_config(path.parent)
        whole = footprint(spec, 1_000, kv_cache_dtype="bf16")
        found = (*sizes(spec), whole.cross_attention_bytes_per_sequence)
        fixed = row["win_cap"] + row["state_bytes_recfp32"]
        written = tmp_path / f"{path.parent.name}.yaml"
        written.write_text(to_yaml(spec, provenance), encoding="utf-8")
        if found != (row["per_tok"] + index, fixed, row["cross"]) or read_model(written) != spec:
            wrong.append(path.parent.name)
    assert wrong == []


def test_importing_loads_no_model_library() -> None:
    """Reading a config needs no transformers, no torch and no network."""
    code = (
        "import sys, kvplan.hf; "
        "print([m for m in ('torch', 'transformers', 'yaml', 'huggingface_hub') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
