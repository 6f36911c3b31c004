"""config.json of a Hugging Face repository and the headers of its safetensors files, no more."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kvplan.errors import UsageError
from kvplan.hf.checkpoint import Checkpoint, select_tensors
from kvplan.hf.config import printable
from kvplan.hf.headers import StoredTensor, stored_tensor

_REPOSITORY = re.compile(r"([\w.-]{1,96}/[\w.-]{1,96})(?:@([\w./-]{1,200}))?")


def fetched_config(name: str, companions: Iterable[str]) -> Path:
    """Local path of the config.json of ``ORG/NAME[@revision]``, with ``companions`` beside it.

    This module alone touches the network, through huggingface_hub (an extra) and its cache.
    Raises UsageError where the extra is missing, the name is none or nothing can be fetched, or
    it is not known whether there is a companion.
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
        for companion in companions:
            try:
                hf_hub_download(repository, companion, revision=revision)
            except EntryNotFoundError as error:
                if _is_unknown(error, repository, companion, revision):
                    raise
    except Exception as error:
        # huggingface_hub raises its own, requests' and OS errors; all mean the same to a person.
        what = f"config.json of {name}, or what belongs to it,"
        problem = f"{what} could not be fetched: {_reason(error)}"
        raise UsageError(problem, "give the file itself: kvplan import ./config.json") from None
    return config


def _is_unknown(error: Exception, repository: str, file: str, revision: str | None) -> bool:
    """Whether the file may be on the hub, which could not be asked.

    huggingface_hub's LocalEntryNotFoundError (2.4.0 errors.py:467) is both "not there" and a
    FileNotFoundError; its cache remembers, by a value of its own, that a file is not on the hub.
    """
    from huggingface_hub import try_to_load_from_cache

    if not isinstance(error, FileNotFoundError):
        return False
    cached = try_to_load_from_cache(repository, file, revision=revision)
    return cached is None or isinstance(cached, str)


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
