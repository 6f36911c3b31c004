"""Which text is what: a model or GPU of the catalogue, an alias, a file of the user's own."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from kvplan.errors import UsageError, nearest
from kvplan.files import CHECKPOINT_FILES
from kvplan.gpu import LEAST_MEMORY_BYTES, Gpu, GpuFile
from kvplan.registry.yaml import quoted, read_yaml
from kvplan.spec import ModelSpec
from kvplan.units import parse_bytes


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

    A folder stands for the config.json in it; relative paths are seen from ``folder``. ``assume``
    names the kind of cache that every layer of a config.json is taken to have, be it known or not;
    where a known one cannot have it, its own reading stands. Raises
    UsageError for a name (with the nearest ones) or a kind that nobody knows, SpecError for a file
    that cannot be understood, RefusedError for a config.json of an architecture that is not known.
    """
    if not isinstance(model, str | Path) or not str(model).strip():
        raise UsageError(f"a model is a name or a file, not {model!r}")
    if assume is not None:
        from kvplan.hf import assumable

        assumable(assume)
    text = str(model).strip().removeprefix("https://huggingface.co/")
    if text.lower() in model_files():
        return shipped_model(model_files()[text.lower()])
    path = (folder or Path()) / text
    if path.suffix == ".json" or any(_is_file(path / name) for name in CHECKPOINT_FILES):
        from kvplan.hf import read_config

        return read_config(path, assume)[0]
    if isinstance(model, Path) or is_yaml(path) or _is_file(path):
        return read_model(path)
    spec = _by_alias(text.lower())
    if spec is None and _is_folder(path):
        raise UsageError(f"{path}: this folder holds no config.json")
    if spec is None:
        raise UsageError(f"no model is called {quoted(text)}", _nearest(text))
    return spec


def is_yaml(path: Path) -> bool:
    """Whether this names a YAML file, there or not."""
    return path.suffix in (".yaml", ".yml")


def _by_alias(alias: str) -> ModelSpec | None:
    for candidate in model_files().values():
        # Parsing every spec to find one alias would cost more than the answer.
        if alias in candidate.read_text(encoding="utf-8").lower():
            spec = shipped_model(candidate)
            if alias in (known.lower() for known in spec.aliases):
                return spec
    return None


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


def _nearest(name: str) -> str:
    aliases = {alias.lower(): spec.name for spec in catalogue() for alias in spec.aliases}
    known = [*model_files(), *aliases]
    near = nearest(name.lower(), known, 6, 0.5)
    names = list(dict.fromkeys(aliases.get(match, match) for match in near))[:3]
    if names:
        return f"did you mean {', '.join(names)}? Or give a spec file: my.yaml"
    return "kvplan list models shows them; a spec file (my.yaml) works as well"


def catalogue() -> tuple[ModelSpec, ...]:
    """Every model of the catalogue, by name."""
    return tuple(shipped_model(path) for path in model_files().values())


@cache
def gpus() -> tuple[Gpu, ...]:
    """Every GPU of the catalogue."""
    listed = read_yaml(configs_dir() / "gpus.yaml").data["gpus"]
    return tuple(Gpu(**{**entry, "aliases": tuple(entry["aliases"])}) for entry in listed)


def load_gpu(name: str | Path, folder: Path | None = None) -> Gpu:
    """The GPU of this name or alias, of this memory (``24GiB``), or the one in this file.

    Relative files are seen from ``folder``; ``kvplan measure --save`` writes one. Raises UsageError
    with the nearest names, SpecError for a file that cannot be understood.
    """
    if not isinstance(name, str | Path):
        raise UsageError(f"a GPU is a name or a file, not {name!r}")
    path = (folder or Path()) / name
    if isinstance(name, Path) or is_yaml(path):
        from kvplan.registry.validation import validate

        return validate(read_yaml(path), GpuFile, path).gpus[0]
    if _MEMORY.fullmatch(name):
        return _gpu_of_memory(name)
    named = _gpus_by_name()
    found = named.get(name.strip().lower(), [])
    if len(found) > 1:
        raise UsageError(
            f"{quoted(name)} is more than one card: {' or '.join(map(_with_bandwidth, found))}",
            "name the one that is meant",
        )
    if not found:
        names = _nearest_gpus(name.strip().lower(), named)
        near = f"did you mean {', '.join(names)}? Or " if names else ""
        hint = f"{near}give its memory alone, 24GiB; kvplan list gpus shows the known ones"
        raise UsageError(f"no GPU is called {quoted(name)}", hint)
    return found[0]


# What is meant as memory; four to six digits are a card's name. parse_bytes says what is one.
_MEMORY = re.compile(
    r"\s*[+-]?[\d.,_]+\s*([kmgt]i?b|[mg])\s*|[\d.]{1,3}|\d+\.\d*|\d{7,}", re.IGNORECASE
)
_MODEL_NUMBER = re.compile(r"[0-9]{3,}")
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


def _gpus_by_name() -> dict[str, list[Gpu]]:
    """Every GPU under its name and aliases; an alias may stand for more than one card."""
    named: dict[str, list[Gpu]] = {}
    for gpu in gpus():
        for alias in (gpu.name, *gpu.aliases):
            named.setdefault(alias.lower(), []).append(gpu)
    return named


def _with_bandwidth(gpu: Gpu) -> str:
    rate = gpu.bandwidth_bytes_per_s
    return gpu.name if rate is None else f"{gpu.name} ({rate // 10**9:,} GB/s)"


def _nearest_gpus(name: str, named: dict[str, list[Gpu]]) -> list[str]:
    """Up to three cards with a similar name; where it has a number, with this very number."""
    numbers = _MODEL_NUMBER.findall(name)
    known = [alias for alias in named if all(number in alias for number in numbers)]
    near = nearest(name, known, 4, 0.5)
    return list(dict.fromkeys(gpu.name for match in near for gpu in named[match]))[:3]


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
