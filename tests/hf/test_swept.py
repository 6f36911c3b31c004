"""Small configs of every decoder class that kvplan reads, against what transformers made of them.

swept.jsonl is written by tests/hf/sweep from classes of transformers 5.24.0: parameters from the
model on the meta device, caches from a pass over text, bytes of keys, values, windows and
convolutions (without their newest column, as engines keep them) in bf16 and of states in fp32.
Where a tower is not counted the parameters are those of the language model.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.hf.configs import spec_of
from tests.hf.sweep.elements import UNCOMPARED, kept_of

_LINES = (Path(__file__).parent / "swept.jsonl").read_text(encoding="utf-8").splitlines()
MODELS: dict[str, dict[str, Any]] = {line["model"]: line for line in map(json.loads, _LINES)}


@pytest.mark.parametrize("name", MODELS)
def test_figures_are_those_of_transformers(tmp_path: Path, name: str) -> None:
    line = MODELS[name]
    spec = spec_of(tmp_path, line["config"])
    parameters = spec.parameters
    if "total" in line:
        assert parameters is not None
        assert parameters.total == line["total"]
    elif parameters is not None:
        assert parameters.total is None
        assert parameters.language == line.get("language", parameters.language)
    if "bytes_per_token" in line and not {kind.kind for kind, _, _ in spec.caches()} & UNCOMPARED:
        kept = kept_of(spec)
        assert kept.bytes_per_token == line["bytes_per_token"]
        assert kept.fixed_bytes == line["fixed_bytes"]
        assert kept.index == line.get("index_elements", 0)
