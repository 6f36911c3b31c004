"""Which text is a path, for models and GPUs alike, and where it leads."""

from __future__ import annotations

from pathlib import Path

SUFFIXES = (".yaml", ".yml", ".json", ".gguf")
HUBS = ("https://", "http://", "huggingface.co/", "hf.co/")
_STARTS = ("./", "../", "/", "~")


def is_path(text: str) -> bool:
    """Whether this text means a file or folder, whatever names there are.

    It does where it begins with ``./``, ``../``, ``/`` or ``~``, ends with ``/``, or has one of
    ``SUFFIXES``; any other text is looked for in the catalogue first.
    """
    if text.lower().startswith(HUBS):
        return False
    is_dots = text in (".", "..")
    return is_dots or text.startswith(_STARTS) or text.lower().endswith(("/", *SUFFIXES))


def as_path(text: str, folder: Path | None) -> Path:
    """The path of this text, seen from ``folder``; ``~`` is the user's home."""
    path = Path(text)
    if text.startswith("~"):
        try:
            path = path.expanduser()
        except (RuntimeError, ValueError):  # no such user
            return path
    return (folder or Path()) / path
