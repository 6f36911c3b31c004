"""A Hugging Face config.json of any known architecture, to a spec; refused where it is not known.

The raw JSON is read and nothing is run: no transformers, no network, no remote code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kvplan.errors import SpecError
from kvplan.files import CHECKPOINT_FILES, is_there, read_text
from kvplan.hf import hub
from kvplan.hf.assumed import assumable
from kvplan.hf.checkpoint import read_checkpoint
from kvplan.hf.config import printable
from kvplan.hf.grouping import Provenance
from kvplan.hf.hub import fetch_checkpoint
from kvplan.hf.import_ import model_spec
from kvplan.hf.quantization import SECTIONS
from kvplan.hf.spec_yaml import to_yaml
from kvplan.json_text import parse_json
from kvplan.spec import ModelSpec

CONFIG_FILE = CHECKPOINT_FILES[0]
QUANTIZATION_FILE = "hf_quant_config.json"
OLDER_QUANTIZATION_FILES = {"quantize_config.json": "gptq", "quant_config.json": "awq"}
"""What AutoGPTQ and AutoAWQ wrote beside a config.json that says nothing, and the method."""
COMPANIONS = (QUANTIZATION_FILE, *OLDER_QUANTIZATION_FILES)
MAX_FILE_BYTES = 16 << 20

_MARKS = ("architectures", "model_type", "n_layers", "quantization", "bits", "w_bit")
"""One of these keys has every file that is read here."""


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
    if _is_folder(file):
        there = (name for name in CHECKPOINT_FILES if is_there(file / name))
        file = file / next(there, CONFIG_FILE)
    raw, quantization = _object(file), None
    if file.name == CONFIG_FILE:
        beside = file.with_name(QUANTIZATION_FILE)
        quantization = _object(beside) if is_there(beside) else None
        raw = _with_older_quantization(raw, file.parent)
    checkpoint = read_checkpoint(file.parent) if file.name == CONFIG_FILE else None
    if repository is not None:
        if checkpoint is None or not checkpoint.tensors:
            checkpoint = fetch_checkpoint(repository)
        name = repository.partition("@")[0]
        return model_spec(raw, repository, name, quantization, assume, checkpoint)
    return model_spec(raw, printable(str(file)), _name(file), quantization, assume, checkpoint)


def fetched_config(name: str) -> Path:
    """Local path of the config.json of ``ORG/NAME[@revision]``, and of what belongs to it.

    Raises UsageError where it cannot be fetched.
    """
    return hub.fetched_config(name, COMPANIONS)


def _with_older_quantization(raw: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The config with what an older file beside it says, where it says nothing itself."""
    if any(raw.get(key) for key in SECTIONS):
        return raw
    for name, method in OLDER_QUANTIZATION_FILES.items():
        if is_there(folder / name):
            section = {"quant_method": method, **_object(folder / name)}
            return {**raw, "quantization_config": section}
    return raw


def _object(path: Path) -> dict[str, Any]:
    """The JSON object in this file. Raises SpecError with file and line for anything else."""
    text = read_text(path, MAX_FILE_BYTES, path.name if path.name in COMPANIONS else CONFIG_FILE)
    shown_path = printable(str(path))
    if not text.strip():
        raise SpecError(f"{shown_path}: empty; it has to be a JSON object")
    data = parse_json(text, shown_path, _MARKS)
    if not isinstance(data, dict):
        raise SpecError(f"{shown_path}:1: has to be a JSON object")
    return data


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
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
