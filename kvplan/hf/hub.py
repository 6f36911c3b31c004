"""config.json of a Hugging Face repository and the headers of its safetensors files, no more."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from kvplan.errors import UsageError
from kvplan.hf.checkpoint import Checkpoint, select_tensors
from kvplan.hf.config import printable
from kvplan.hf.headers import StoredTensor, stored_tensor

_REPOSITORY = re.compile(r"([\w.-]{1,96}/[\w.-]{1,96})(?:@([\w./-]{1,200}))?")


def fetched_config(name: str) -> Path:
    """Local path of the config.json of ``ORG/NAME[@revision]``, hf_quant_config.json beside it.

    This module alone touches the network, through huggingface_hub (an extra) and its cache.
    Raises UsageError where the extra is missing, the name is none or nothing can be fetched.
    """
    repository, revision = _repository(name)
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError
    except ImportError:
        problem = "--from-hub needs the package huggingface_hub"
        raise UsageError(problem, "pip install 'kvplan[hub]'") from None
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its retries are not an answer
    try:
        config = Path(hf_hub_download(repository, "config.json", revision=revision))
        try:
            hf_hub_download(repository, "hf_quant_config.json", revision=revision)
        except EntryNotFoundError:
            return config
    except Exception as error:
        # huggingface_hub raises its own, requests' and OS errors; all mean the same to a person.
        problem = f"config.json of {name} could not be fetched: {_reason(error)}"
        raise UsageError(problem, "give the file itself: kvplan import ./config.json") from None
    return config


def _repository(name: str) -> tuple[str, str | None]:
    match = _REPOSITORY.fullmatch(name)
    if match is None:
        problem = f"{name!r} is not a Hugging Face repository"
        raise UsageError(problem, "write ORG/NAME[@revision]")
    return match[1], match[2]


def _reason(error: Exception) -> str:
    return printable((str(error).splitlines() or [type(error).__name__])[0])


def fetch_checkpoint(name: str) -> Checkpoint | None:
    """The tensors of ``ORG/NAME[@revision]`` by the headers of its safetensors files.

    None where it has no model.safetensors and no index of shards. Where it has them and they
    cannot be fetched there are no tensors, and a note says why. Raises SpecError for headers that
    cannot be understood.
    """
    repository, revision = _repository(name)
    try:
        from huggingface_hub import get_safetensors_metadata
        from huggingface_hub.errors import NotASafetensorsRepoError

        try:
            metadata = get_safetensors_metadata(repository, revision=revision)
        except NotASafetensorsRepoError:
            return None
    except Exception as error:
        problem = f"these could not be fetched: {_reason(error)}"
        return Checkpoint((), (), (f"weights are not read from safetensors headers: {problem}",))
    headers = {file: _tensors(file, data) for file, data in metadata.files_metadata.items()}
    tensors = select_tensors(headers, metadata.weight_map, name)
    return Checkpoint(tensors, tuple(headers))


def _tensors(file: str, metadata: Any) -> tuple[StoredTensor, ...]:
    """The tensors of one file as huggingface_hub describes them (SafetensorsFileMetadata)."""
    return tuple(
        stored_tensor(name, {"dtype": info.dtype, "shape": list(info.shape)}, file)
        for name, info in metadata.tensors.items()
    )
