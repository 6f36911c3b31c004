"""Writes tests/hf/registries.csv anew: every decoder of the two registries, and what is not read.

    PYTHONPATH=. python -m tests.hf.sweep.registries [.../vllm/model_executor/models/registry.py]

takes the reason from rows that are read by now. Where transformers is installed its classes are
gone through, and with vLLM's registry its own; a class that is not read and has no reason yet gets
"not looked at yet".
"""

from __future__ import annotations

import ast
import csv
import sys
from collections.abc import Iterator
from pathlib import Path

from kvplan.hf.families import FAMILIES, WRAPPERS
from tests.hf.test_registries import FILE, ROWS, is_read

COLUMNS = ("registry", "class", "model_type", "unread")
TRANSFORMERS, VLLM = "transformers 5.24.0", "vLLM 0.33.0"
TASKS = (
    *("SEQ_TO_SEQ_CAUSAL_LM", "IMAGE_TEXT_TO_TEXT", "CAUSAL_LM", "SPEECH_SEQ_2_SEQ"),
    *("MULTIMODAL_LM", "TEXT_TO_WAVEFORM", "TEXT_TO_SPECTROGRAM"),
)
"""Maps of transformers whose models write something; the first that names a model type counts."""
GROUPS = ("_TEXT_GENERATION_MODELS", "_MULTIMODAL_MODELS", "_TRANSFORMERS_SUPPORTED_MODELS")

Row = dict[str, str]


def of_transformers() -> Iterator[Row]:
    """A row for each model type."""
    try:
        from transformers.models.auto import modeling_auto
    except ImportError:
        return
    found: dict[str, str] = {}
    for task in TASKS:
        names = getattr(modeling_auto, f"MODEL_FOR_{task}_MAPPING_NAMES")
        found |= {key: name for key, name in names.items() if key not in found}
    for model_type, name in sorted(found.items()):
        yield {"registry": TRANSFORMERS, "class": name, "model_type": model_type}


def of_vllm(path: Path) -> Iterator[Row]:
    """A row for each class; its model type is one whose files may name that class."""
    types = sorted({*FAMILIES, *WRAPPERS}, key=len)
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Dict):
            continue
        if getattr(node.targets[0], "id", "") in GROUPS:
            for key in filter(None, node.value.keys):
                name = str(ast.literal_eval(key))
                model_type = next((each for each in types if is_read(each, name)), "")
                yield {"registry": VLLM, "class": name, "model_type": model_type}


def merged(known: list[Row], found: list[Row]) -> list[Row]:
    """Known rows, then new ones; each with the reason where it is not read."""
    rows = {(row["registry"], row["class"], row["model_type"]): row for row in known}
    named = {(row["registry"], row["class"]) for row in known if row["registry"] == VLLM}
    for row in found:
        if (row["registry"], row["class"]) not in named:
            rows.setdefault((row["registry"], row["class"], row["model_type"]), row)
    return [{**row, "unread": _reason(row)} for row in rows.values()]


def _reason(row: Row) -> str:
    if row["model_type"] and is_read(row["model_type"], row["class"]):
        return ""
    return row.get("unread") or "not looked at yet"


def main() -> None:
    """Writes the file."""
    found = list(of_transformers())
    for argument in sys.argv[1:]:
        found += of_vllm(Path(argument))
    with FILE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(merged(ROWS, found))


if __name__ == "__main__":
    main()
