"""Which text is what: a model or GPU of the catalogue, an alias, a file of the user's own."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvplan.errors import UsageError, nearest
from kvplan.files import CHECKPOINT_FILES, is_there
from kvplan.gpu import LEAST_MEMORY_BYTES, Gpu, GpuFile
from kvplan.registry.paths import as_path, is_path
from kvplan.registry.yaml import parse_yaml, quoted, read_yaml
from kvplan.spec import ModelSpec
from kvplan.units import parse_bytes

if TYPE_CHECKING:
    from kvplan.registry.spelling import Card, Known


@cache
def configs_dir() -> Path:
    """Folder of the catalogue: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


@cache
def model_files() -> dict[str, Path]:
    """The catalogue's spec files by model name."""
    return {path.stem: path for path in sorted((configs_dir() / "models").glob("*.yaml"))}


@cache
def shipped_model(path: Path) -> ModelSpec:
    """A spec of the catalogue, which the tests validate."""
    return ModelSpec.from_data(read_yaml(path).data)


def read_model(path: Path) -> ModelSpec:
    """The spec in a user's file. Raises SpecError with every problem in it."""
    from kvplan.registry.validation import validate

    return validate(read_yaml(path), ModelSpec, path)


def load(model: str | Path, assume: str | None = None, folder: Path | None = None) -> ModelSpec:
    """The model of this name, alias or Hugging Face id, or of this spec or config.json.

    One rule for every command: the catalogue first, however its names are spelt; a text that
    ``is_path`` says is one (``./``, ``/``, ``~``, a file's suffix), and a Path, is a path; what
    the catalogue does not know is one where there is such a file or checkpoint. ``name_note`` says
    what was read where that is not plain. A folder stands for the config.json in it; relative paths
    are seen from ``folder``. ``assume`` names the kind of cache that every layer of a config.json
    is taken to have, be it known or not; where a known one cannot have it, its own reading stands.
    Raises UsageError for a name (with the nearest ones) or a kind that nobody knows, SpecError for
    a file that cannot be understood, RefusedError for an architecture that is not known.
    """
    if not isinstance(model, str | Path) or not str(model).strip():
        raise UsageError(f"a model is a name or a file, not {model!r}")
    if assume is not None:
        from kvplan.hf import assumable

        assumable(assume)
    text = str(model).strip()
    path = as_path(text, folder)
    if isinstance(model, Path) or is_path(text):
        return _read(path, assume)
    there = _is_checkpoint(path) or _is_file(path)
    name, notes = _find(text)
    if name is not None:
        if there:
            path_text = quoted(f"./{text}")
            notes.append(f"the catalogue goes before the path of that name, which is {path_text}")
        spec = shipped_model(model_files()[name])
        return replace(spec, name_note="; ".join(notes)) if notes else spec
    if there:
        note = f"{quoted(text)} is no name of the catalogue: read from {path}"
        return replace(_read(path, assume), name_note=note)
    if _is_folder(path):
        raise _no_checkpoint(path)
    raise _unknown_model(text)


def _find(text: str) -> tuple[str | None, list[str]]:
    """The catalogue's model that this text can only mean, and a note where it is spelt otherwise.

    Raises UsageError for another revision than main: it may have other figures.
    """
    exact = _models_by_alias().get(text.lower())
    if exact is not None:
        return exact, []
    from kvplan.registry.spelling import repository

    names, wanted = known_models(), repository(text)
    identifier, _, revision = wanted.partition("@")
    if revision and identifier.lower() in names.by_alias:
        raise UsageError(
            f"{quoted(text)}: the catalogue has {names.by_alias[identifier.lower()]} as it is on "
            "main, not its other revisions",
            f"kvplan import --from-hub {wanted} -o model.yaml reads this one",
        )
    exact = names.by_alias.get(wanted.lower())
    if exact is not None:
        return exact, []
    same = names.spelt_like(wanted)
    if len(same) != 1 or wanted.lower() in OTHER_CHECKPOINTS:
        return None, []
    return same[0], [f"{quoted(text)} is read as {same[0]}"]


OTHER_CHECKPOINTS = {"google/gemma-2-27b", "state-spaces/mamba-2.8b"}
"""Ids that are spelt as a model of the catalogue and are stored otherwise: in fp32, in fp16."""


def _read(path: Path, assume: str | None) -> ModelSpec:
    """The spec in this file, config.json or checkpoint folder."""
    if path.suffix.lower() == ".json" or _is_checkpoint(path):
        from kvplan.hf import read_config

        return read_config(path, assume)[0]
    if _is_folder(path):
        raise _no_checkpoint(path)
    return read_model(path)


@cache
def known_models() -> Known:
    """The catalogue's names and aliases, to hold another spelling against."""
    from kvplan.registry.spelling import Known

    return Known(model_aliases())


@cache
def model_aliases() -> dict[str, tuple[str, ...]]:
    """The aliases of every model, read from the heads of the files."""
    return {name: tuple(_aliases(path)) for name, path in model_files().items()}


@cache
def _models_by_alias() -> dict[str, str]:
    """Model by each of its names, in lower case."""
    listed = model_aliases().items()
    return {text.lower(): model for model, aliases in listed for text in (model, *aliases)}


_HEAD = r"aliases:\n((?:  - .*\n)+)"


def _aliases(path: Path) -> list[str]:
    """The aliases of a spec of the catalogue. Parsing the whole would cost more than the answer."""
    match = re.search(_HEAD, path.read_text(encoding="utf-8"))
    return [line[4:].strip("\"'") for line in match[1].splitlines()] if match else []


def _is_checkpoint(path: Path) -> bool:
    """Whether the folder holds one, be it readable or not: a link to nothing is said to be one."""
    return any(os.path.lexists(path / name) for name in CHECKPOINT_FILES)


def _no_checkpoint(folder: Path) -> UsageError:
    """What is wrong with a folder without one. Raises SpecError where it does not tell."""
    for name in CHECKPOINT_FILES:
        is_there(folder / name)
    return UsageError(f"{folder}: this folder holds no config.json")


def _is_file(path: Path) -> bool:
    try:
        return path.exists() and not path.is_dir()
    except (OSError, ValueError):
        return False


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


_PATHS = "files are ./NAME, or end in .yaml or .json"


def _unknown_model(text: str) -> UsageError:
    """What to say of a name that nobody knows, or that several models have."""
    from kvplan.registry.spelling import as_published

    names = known_models()
    could_be = names.spelt_like(text) or names.beginning_with(text)
    if len(could_be) > 1:
        listed = ", ".join(could_be[:_MOST_LISTED])
        more = f" and {len(could_be) - _MOST_LISTED} more" if len(could_be) > _MOST_LISTED else ""
        return UsageError(f"{quoted(text)} could be {listed}{more}", "name the one that is meant")
    problem, name = f"no model is called {quoted(text)}", text.rpartition("/")[2]
    own = (
        f"kvplan import --from-hub {text if '/' in text else 'ORG/NAME'} reads its own config.json"
    )
    published, others = names.spelt_like(as_published(name) or ""), names.spelt_like(name)
    if published:
        return UsageError(
            f"{problem}, and quantised weights have a size of their own",
            f"{own}; {published[0]} with quantization fp8 or int4 is an estimate",
        )
    if others and "/" in text:
        return UsageError(
            f"{problem}: {others[0]} is another repository's, and may be stored otherwise",
            f"write {others[0]} if that is meant; {own}",
        )
    near = could_be or names.suggestions(text)
    if near:
        return UsageError(problem, f"did you mean {', '.join(near)}? F{_PATHS[1:]}")
    return UsageError(problem, f"kvplan list --search TEXT finds names; {_PATHS}")


_MOST_LISTED = 6


def catalogue() -> tuple[ModelSpec, ...]:
    """Every model of the catalogue, by name."""
    return tuple(shipped_model(path) for path in model_files().values())


@cache
def gpus() -> tuple[Gpu, ...]:
    """Every GPU of the catalogue."""
    return tuple(_gpu(entry) for entry in read_yaml(_gpus_file()).data["gpus"])


def _gpus_file() -> Path:
    return configs_dir() / "gpus.yaml"


def _gpu(entry: dict[str, Any]) -> Gpu:
    return Gpu(**{**entry, "aliases": tuple(entry["aliases"])})


_GPU_ENTRY = r"(?m)^  - name: (.+)\n    aliases: \[(.*)\]\n(?:    .*\n)*"


@cache
def gpu_entries() -> dict[tuple[str, ...], str]:
    """The text of each GPU's entry by its name and aliases: one is parsed, not all."""
    text = _gpus_file().read_text(encoding="utf-8")
    return {
        (match[1], *re.findall(r"[^\s,\"]+", match[2])): match[0]
        for match in re.finditer(_GPU_ENTRY, text)
    }


def _catalogue_gpu(names: tuple[str, ...]) -> Gpu:
    """The GPU of the catalogue that has these names."""
    document = parse_yaml(f"gpus:\n{gpu_entries()[names]}", _gpus_file())
    return _gpu(document.data["gpus"][0])


@cache
def _cards() -> tuple[Card, ...]:
    from kvplan.registry.spelling import Card

    return tuple(map(Card, gpu_entries()))


def load_gpu(name: str | Path, folder: Path | None = None) -> Gpu:
    """The GPU of this name or alias, of this memory (``24GiB``), or the one in this file.

    What ``is_path`` says is a path is one, as for models; files are seen from ``folder``, and
    ``kvplan measure --save`` writes one. A name may be spelt as nvidia-smi prints it. Raises
    UsageError with the nearest names, SpecError for a file that cannot be understood.
    """
    if not isinstance(name, str | Path):
        raise UsageError(f"a GPU is a name or a file, not {name!r}")
    text = str(name).strip()
    if isinstance(name, Path) or is_path(text):
        from kvplan.registry.validation import validate

        path = as_path(text, folder)
        return validate(read_yaml(path), GpuFile, path).gpus[0]
    if _MEMORY.fullmatch(name):
        return _gpu_of_memory(name)
    called = [names for names in gpu_entries() if text.lower() in map(str.lower, names)]
    if len(called) == 1:
        return _catalogue_gpu(called[0])
    called = called or [card.names for card in _cards() if card.may_be(text)]
    if len(called) > 1:
        cards = map(_with_bandwidth, map(_catalogue_gpu, called))
        problem = f"{quoted(text)} is more than one card: {' or '.join(cards)}"
        raise UsageError(problem, "name the one that is meant")
    if called:
        gpu = _catalogue_gpu(called[0])
        return replace(gpu, name_note=f"{quoted(text)} is read as {gpu.name}")
    near = _nearest_gpus(text)
    hint = f"{near}give its memory alone, 24GiB; kvplan list gpus shows the known ones"
    raise UsageError(f"no GPU is called {quoted(text)}", hint)


# What is meant as memory; four to six digits are a card's name. parse_bytes says what is one.
_MEMORY = re.compile(
    r"\s*[+-]?[\d.,_]+\s*([kmgt]i?b|[mg])\s*|[\d.]{1,3}|\d+\.\d*|\d{7,}", re.IGNORECASE
)
_MOST_MEMORY_BYTES = 1 << 50


def _gpu_of_memory(text: str) -> Gpu:
    """A GPU of which nothing but its memory is known."""
    try:
        memory_bytes = parse_bytes(text)
    except UsageError as error:
        raise UsageError(f"no GPU has {quoted(text)} of memory", error.hint) from None
    if not LEAST_MEMORY_BYTES <= memory_bytes < _MOST_MEMORY_BYTES:
        raise UsageError(
            f"no GPU has {quoted(text)} of memory", "write what a process sees of it: 24GiB"
        )
    return Gpu(name=text, memory_bytes=memory_bytes)


def _with_bandwidth(gpu: Gpu) -> str:
    rate = gpu.bandwidth_bytes_per_s
    return gpu.name if rate is None else f"{gpu.name} ({rate // 10**9:,} GB/s)"


def _nearest_gpus(text: str) -> str:
    from kvplan.registry.spelling import nearest_cards

    names = nearest_cards(text, _cards())
    return f"did you mean {', '.join(names)}? Or " if names else ""


def found_models(search: str | None, kind: str | None = None) -> tuple[ModelSpec, ...]:
    """The catalogue's models of this kind that have every word of ``search`` in a name.

    Raises UsageError where there are none, with the nearest names.
    """
    from kvplan.registry.spelling import has_words

    specs = models_of_kind(kind)
    found = tuple(spec for spec in specs if has_words(search, (spec.name, *spec.aliases)))
    if search is not None and not found:
        near = known_models().suggestions(search)
        hint = f"did you mean {', '.join(near)}?" if near else "kvplan list shows all"
        raise UsageError(f"no model has {quoted(search)} in its name", hint)
    return found


def found_gpus(search: str | None) -> tuple[Gpu, ...]:
    """The catalogue's GPUs that have every word of ``search`` in a name or their description.

    Raises UsageError where there are none, with the nearest names.
    """
    from kvplan.registry.spelling import has_words

    found = tuple(
        gpu for gpu in gpus() if has_words(search, (gpu.name, *gpu.aliases, gpu.description or ""))
    )
    if search is not None and not found:
        hint = f"{_nearest_gpus(search)}kvplan list gpus shows all"
        raise UsageError(f"no GPU has {quoted(search)} in its name", hint)
    return found


def models_of_kind(kind: str | None) -> tuple[ModelSpec, ...]:
    """The catalogue's models that have this kind of cache, by its name or label.

    Raises UsageError for a kind that no model has.
    """
    if kind is None:
        return catalogue()
    specs = tuple(spec for spec in catalogue() if kind.lower() in _kind_names(spec))
    if not specs:
        names = sorted({name for spec in catalogue() for name in _kind_names(spec)})
        near = nearest(kind.lower(), names, 3)
        raise UsageError(
            f"no model has a cache of kind {quoted(kind)}", f"one of: {', '.join(near or names)}"
        )
    return specs


def _kind_names(spec: ModelSpec) -> set[str]:
    kinds = [kind for kind, _, _ in spec.caches()]
    return {kind.kind for kind in kinds} | {kind.tag().lower() for kind in kinds}
