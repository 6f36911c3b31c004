"""Small text files, read with a bound and written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from kvplan.errors import SpecError, UsageError

CHECKPOINT_FILES = ("config.json", "params.json")
"""What makes a folder a checkpoint: either of these, the first before Mistral's own form."""


def read_text(path: Path, most_bytes: int, what: str) -> str:
    """The text of this file, which is to be a ``what``. Raises SpecError naming the file."""
    try:
        if path.is_dir():
            raise SpecError(f"{path}: is a folder, not a {what}")
        with path.open("rb") as file:
            content = file.read(most_bytes + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SpecError(f"{path}: cannot be read: {reason}") from None
    if content.startswith(b"GGUF"):
        raise SpecError(f"{path}: a GGUF file, not a {what}; give the model's config.json instead")
    if len(content) > most_bytes:
        raise SpecError(f"{path}: larger than {most_bytes:,} bytes; it is not a {what}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SpecError(f"{path}: not a text file (it is not UTF-8)") from None


def write_whole(path: Path, text: str) -> None:
    """The text in this file, or no file at all. Raises UsageError where it cannot be written."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(path)
    except (OSError, ValueError) as error:
        unfinished.unlink(missing_ok=True)
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{path}: cannot be written: {reason}") from None


def append(path: Path, text: str) -> None:
    """The text at the end of this file. Raises UsageError where it cannot be written."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{path}: cannot be written: {reason}") from None
