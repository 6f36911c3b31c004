"""What an engine is told to load: the Hugging Face id or the folder that a text means."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kvplan.errors import RefusedError, UsageError
from kvplan.registry.names import model_aliases, model_files
from kvplan.registry.paths import as_path, is_path
from kvplan.registry.spelling import repository
from kvplan.spec import ModelSpec


@dataclass(frozen=True)
class Checkpoint:
    """``name`` is what an engine loads; ``others`` are checkpoints with the same figures."""

    name: str
    others: tuple[str, ...] = ()


def checkpoint_of(model: str, spec: ModelSpec) -> Checkpoint:
    """The checkpoint of this model, which was read as ``spec``.

    An id is itself, a folder too; of a name of the catalogue, the id that is spelt like it, else
    the first. Raises UsageError for a description that is no checkpoint, RefusedError where the
    catalogue knows of none.
    """
    text = model.strip()
    if not is_path(text) and "/" in repository(text) and spec.name in model_files():
        return Checkpoint(repository(text))
    if spec.name in model_files() and not is_path(text):
        return _of_catalogue(text, spec.name)
    path = as_path(text, None)
    if path.is_dir():
        return Checkpoint(str(path))
    if path.suffix == ".json":
        return Checkpoint(str(path.parent))
    ids = [alias for alias in spec.aliases if "/" in alias]
    if ids:
        return Checkpoint(ids[0], tuple(ids[1:]))
    raise UsageError(
        f"{Path(text).name} describes a model, and is no checkpoint that an engine loads",
        "name the Hugging Face id, or the folder of the checkpoint",
    )


def _of_catalogue(text: str, name: str) -> Checkpoint:
    ids = [alias for alias in model_aliases()[name] if "/" in alias]
    if not ids:
        raise RefusedError(f"the catalogue knows no checkpoint of {name}", "name its folder")
    if text == name:
        return Checkpoint(ids[0], tuple(ids[1:]))
    wanted = _plain(text)
    like = [each for each in ids if _plain(each.partition("/")[2]) == wanted]
    like = like or [each for each in ids if wanted in _plain(each)] or ids
    return Checkpoint(like[0], tuple(each for each in ids if each != like[0]))


def _plain(name: str) -> str:
    """Letters and digits alone, lower-case."""
    return "".join(filter(str.isalnum, name.lower()))
