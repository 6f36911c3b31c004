"""config.json of a Hugging Face repository, and nothing else of it."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from kvplan.errors import UsageError

_REPOSITORY = re.compile(r"([\w.-]{1,96}/[\w.-]{1,96})(?:@([\w./-]{1,200}))?")


def fetched_config(name: str) -> Path:
    """Local path of the config.json of ``ORG/NAME[@revision]``, hf_quant_config.json beside it.

    The only place that touches the network, through huggingface_hub (an extra) and its cache.
    Raises UsageError where the extra is missing, the name is none or nothing can be fetched.
    """
    match = _REPOSITORY.fullmatch(name)
    if match is None:
        raise UsageError(f"{name!r} is no Hugging Face repository", "write ORG/NAME[@revision]")
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError
    except ImportError:
        problem = "--from-hub needs the package huggingface_hub"
        raise UsageError(problem, "pip install 'kvplan[hub]'") from None
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its retries are not an answer
    repository, revision = match.groups()
    try:
        config = Path(hf_hub_download(repository, "config.json", revision=revision))
        try:
            hf_hub_download(repository, "hf_quant_config.json", revision=revision)
        except EntryNotFoundError:
            return config
    except Exception as error:
        # huggingface_hub raises its own, requests' and OS errors; all mean the same to a person.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        problem = f"config.json of {name} could not be fetched: {reason}"
        raise UsageError(problem, "give the file itself: kvplan import ./config.json") from None
    return config
