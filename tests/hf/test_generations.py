"""The same model as each release of transformers saves it, and keys that a class fills in.

``generations.jsonl`` has small models as ``to_json_string`` of transformers 4.40.2 to 5.24.0
writes them, where releases differ, with what 5.24.0 makes of each file: parameters of its class on
the meta device, and the cache that it fills. The lines with a ``why`` are files that leave a key
to their class. Only keys that decide something are kept; no recurrent states.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kvplan.calc import footprint
from tests.hf.configs import spec_of
from tests.hf.models import spelt_out

_LINES = (Path(__file__).parent / "generations.jsonl").read_text(encoding="utf-8").splitlines()
FILES: dict[str, dict[str, Any]] = {
    f"{line['model']}, {line.get('releases') or line['why']}": line
    for line in map(json.loads, _LINES)
}


@pytest.mark.parametrize("name", FILES)
def test_the_cache_is_what_transformers_keeps(tmp_path: Path, name: str) -> None:
    file = FILES[name]
    whole = footprint(spec_of(tmp_path, spelt_out(file["config"])), 1_000, kv_cache_dtype="bf16")
    if "bytes_per_token" in file:
        assert whole.bytes_per_token == file["bytes_per_token"]
    if "fixed_bytes" in file:
        assert whole.fixed_bytes_per_sequence == file["fixed_bytes"]


@pytest.mark.parametrize("name", [name for name in FILES if "total" in FILES[name]])
def test_parameters_are_those_of_the_class(tmp_path: Path, name: str) -> None:
    parameters = spec_of(tmp_path, spelt_out(FILES[name]["config"])).parameters
    assert parameters is not None
    assert parameters.total == FILES[name]["total"]
