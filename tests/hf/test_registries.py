"""Every decoder of transformers and of vLLM is read, or registries.csv says why it is not.

A row is a class of one of the two registries (transformers 5.24.0 models/auto/modeling_auto.py,
vLLM 0.33.0 model_executor/models/registry.py; "vLLM 0.23.0" is the last release that had it), the
model type of its files, and the reason where no reader is there.
"""

from __future__ import annotations

import csv
from collections import Counter
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

from kvplan.errors import RefusedError
from kvplan.hf import families
from kvplan.hf.architecture import UnknownArchitectureError, architecture
from kvplan.hf.config import Config
from kvplan.hf.families import FAMILIES, WRAPPERS

FILE = Path(__file__).parent / "registries.csv"
ROWS = list(csv.DictReader(FILE.read_text(encoding="utf-8").splitlines()))


def is_read(model_type: str, class_name: str) -> bool:
    """Whether a file of this model type and class finds a reader, whatever else it lacks."""
    raw = {"model_type": model_type, "architectures": [class_name]}
    try:
        architecture(Config(raw, "config.json", class_name))
    except UnknownArchitectureError:
        return False
    except RefusedError as error:
        return "architectures names" not in error.message
    return True


def test_every_decoder_is_read_or_listed_with_the_reason() -> None:
    named = [row for row in ROWS if row["model_type"]]
    pairs = {(row["model_type"], row["class"]): row["unread"] for row in named}
    assert {pair for pair in pairs if not is_read(*pair)} == {p for p in pairs if pairs[p]}


def test_a_class_without_a_model_type_is_read_nowhere() -> None:
    types = FAMILIES.keys() | WRAPPERS.keys()
    for row in ROWS:
        if not row["model_type"]:
            assert row["unread"], row
            assert not any(is_read(each, row["class"]) for each in types), row


def test_a_model_type_is_read_in_one_file() -> None:
    """Of two lineages that name the same one, the later would win without a word."""
    lineages = [
        import_module(f"{families.__name__}.{m.name}") for m in iter_modules(families.__path__)
    ]
    for table in ("FAMILIES", "WRAPPERS"):
        places = Counter(name for lineage in lineages for name in vars(lineage).get(table, {}))
        assert [name for name, count in places.items() if count > 1] == []
