"""A Hugging Face config.json of any known architecture, to a spec; refused where it is not known.

The raw JSON is read and nothing is run: no transformers, no network, no remote code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kvplan.files import CHECKPOINT_FILES
from kvplan.hf.assumed import assumable
from kvplan.hf.checkpoint import read_checkpoint
from kvplan.hf.config import printable
from kvplan.hf.grouping import Provenance
from kvplan.hf.hub import fetch_checkpoint, fetched_config
from kvplan.hf.import_ import model_spec
from kvplan.hf.json_text import read_json
from kvplan.hf.quantization import SECTIONS
from kvplan.hf.spec_yaml import to_yaml
from kvplan.spec import ModelSpec

CONFIG_FILE = CHECKPOINT_FILES[0]
QUANTIZATION_FILE = "hf_quant_config.json"
OLDER_QUANTIZATION_FILES = {"quantize_config.json": "gptq", "quant_config.json": "awq"}
"""What AutoGPTQ and AutoAWQ wrote beside a config.json that says nothing, and the method."""


def read_config(
    path: Path | str, assume: str | None = None, repository: str | None = None
) -> tuple[ModelSpec, Provenance]:
    """The spec that this config.json, or the one in this folder, means, and where it came from.

    Where safetensors files lie beside a config.json, weights are read from their headers.
    ``repository`` is the Hugging Face id that the file was fetched from, if it was: the headers of
    its files are then fetched as well. ``assume`` names the kind of cache that every layer is
    taken to have, be the architecture known or not. Raises SpecError for a file that cannot be
    understood, RefusedError for what is not known.
    """
    file = Path(path)
    if _is(file, "folder"):
        there = (name for name in CHECKPOINT_FILES if _is(file / name, "file"))
        file = file / next(there, CONFIG_FILE)
    raw = read_json(file)
    beside = file.with_name(QUANTIZATION_FILE)
    quantization = read_json(beside) if file.name == CONFIG_FILE and _is(beside, "file") else None
    if file.name == CONFIG_FILE:
        raw = _with_older_quantization(raw, file.parent)
    checkpoint = read_checkpoint(file.parent) if file.name == CONFIG_FILE else None
    if repository is not None:
        if checkpoint is None or not checkpoint.tensors:
            checkpoint = fetch_checkpoint(repository)
        name = repository.partition("@")[0]
        return model_spec(raw, repository, name, quantization, assume, checkpoint)
    return model_spec(raw, printable(str(file)), _name(file), quantization, assume, checkpoint)


def _with_older_quantization(raw: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The config with what an older file beside it says, where it says nothing itself."""
    if any(raw.get(key) for key in SECTIONS):
        return raw
    for name, method in OLDER_QUANTIZATION_FILES.items():
        if _is(folder / name, "file"):
            section = {"quant_method": method, **read_json(folder / name)}
            return {**raw, "quantization_config": section}
    return raw


def _is(path: Path, what: str) -> bool:
    try:
        return path.is_dir() if what == "folder" else path.is_file()
    except (OSError, ValueError):
        return False


def _name(file: Path) -> str:
    try:
        whole = file.resolve()
    except (OSError, RuntimeError, ValueError):
        whole = file
    is_named_by_folder = file.name in CHECKPOINT_FILES
    return printable(whole.parent.name if is_named_by_folder else whole.stem) or "model"


__all__ = ["Provenance", "assumable", "fetched_config", "read_config", "to_yaml"]
