"""Which safetensors files beside a config.json are the model, and every tensor in them.

A folder may hold the same weights twice (Mistral's consolidated.safetensors), adapters, shards
that were not downloaded or are pointers of Git LFS: what the index names goes before all else,
then model.safetensors or its shards, then consolidated ones, then what else there is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kvplan.errors import SpecError
from kvplan.files import is_there, read_text
from kvplan.hf.config import printable, shown
from kvplan.hf.headers import MAX_HEADER_BYTES, StoredTensor, read_header
from kvplan.json_text import parse_json

MAX_FILES = 10_000
MAX_INDEX_BYTES = 100_000_000
MAX_HEADERS_BYTES = 256_000_000
"""All headers of a checkpoint together: ten times those of the largest ones (Kimi-K2)."""

_SUFFIX = ".safetensors"
_STEMS = ("model", "consolidated")
_SHARD = re.compile(r"(.+?)[-_.]?(\d{1,6})-of-(\d{1,6})\.safetensors")
# Never a model of its own: LoRA adapters, MLX's adapters, draft layers in a file of theirs, states
# of a training run.
_BESIDE = re.compile(r"(adapter|lora|mtp|optimizer|scheduler|scaler|ema|training)", re.IGNORECASE)
_LFS_POINTER = b"version https://git-lfs"
_NAMED = 3


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a model, the files that they stand in, and what is to be said of these.

    No tensors where files are missing: ``notes`` then says which.
    """

    tensors: tuple[StoredTensor, ...]
    files: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def origin(self) -> str | None:
        """Where weights come from that are read of it; None where they are not."""
        files = (
            "one safetensors file"
            if len(self.files) == 1
            else f"{len(self.files)} safetensors files"
        )
        headers = "header" if len(self.files) == 1 else "headers"
        return f"the {headers} of {files}" if self.tensors else None


@dataclass(frozen=True)
class _Files:
    """Names of the files that are the model, and the file of each tensor where an index says."""

    names: tuple[str, ...]
    index: str | None = None
    weight_map: Mapping[str, str] | None = None


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """What the safetensors files in this folder hold; None where there are none of a model.

    Raises SpecError for a file or an index that is not what it says it is, and for one tensor in
    two files where no index says which of them counts.
    """
    present = _present(folder)
    files = _model_files(folder, present)
    if files is None:
        return None
    if len(files.names) > MAX_FILES:
        where = printable(str(folder))
        raise SpecError(f"{where}: {len(files.names):,} files of weights, more than {MAX_FILES:,}")
    missing = [name for name in files.names if not _is_here(folder / name)]
    if missing:
        return Checkpoint((), (), (_missing_note(files, missing),))
    headers = _headers(folder, files.names)
    tensors = select_tensors(headers, files.weight_map, printable(str(folder)))
    return Checkpoint(tensors, files.names, _beside_note(present, files.names))


def _present(folder: Path) -> tuple[str, ...]:
    try:
        names = [
            path.name
            for path in folder.iterdir()
            if path.name.endswith(_SUFFIX) and not path.name.startswith(".") and not path.is_dir()
        ]
    except OSError as error:
        raise SpecError(f"{printable(str(folder))}: cannot be read: {error.strerror}") from None
    return tuple(sorted(names))


def _model_files(folder: Path, present: tuple[str, ...]) -> _Files | None:
    for stem in _STEMS:
        index = folder / f"{stem}{_SUFFIX}.index.json"
        if is_there(index):
            return _indexed_files(index) if _is_here(index) else _Files((index.name,))
        if f"{stem}{_SUFFIX}" in present:
            return _Files((f"{stem}{_SUFFIX}",))
        shards = _shards(folder, stem, present)
        if shards:
            return _Files(shards)
    others = tuple(name for name in present if not _BESIDE.match(name))
    return _Files(others) if others else None


def _indexed_files(index: Path) -> _Files:
    file = printable(str(index))
    data = parse_json(read_text(index, MAX_INDEX_BYTES, "safetensors index"), file, {"weight_map"})
    weight_map = data.get("weight_map") if isinstance(data, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise SpecError(f"{file}: an index has a weight_map, of a file for each tensor")
    names = set()
    for tensor, name in weight_map.items():
        if not isinstance(name, str) or not _is_plain(name):
            raise SpecError(
                f"{file}: tensor {shown(tensor)} is to be in {shown(name)}, which is not a "
                "safetensors file of this folder"
            )
        names.add(name)
    return _Files(tuple(sorted(names)), index.name, weight_map)


def _is_plain(name: str) -> bool:
    return name.endswith(_SUFFIX) and not set(name) & set("/\\:\0") and not name.startswith(".")


def _shards(folder: Path, stem: str, present: tuple[str, ...]) -> tuple[str, ...]:
    """All shards of this stem, those that are not in the folder too; none where it has none."""
    found = [
        match
        for name in present
        if (match := _SHARD.fullmatch(name)) and match[1] in (stem, f"{stem}{_SUFFIX}")
    ]
    sets = {(match[1], int(match[3])) for match in found}
    if len(sets) > 1:
        where = printable(str(folder))
        raise SpecError(
            f"{where}: shards of {len(sets)} different checkpoints ({found[0][0]}, "
            f"{found[-1][0]}), and no {stem}{_SUFFIX}.index.json says which one counts"
        )
    names = {int(match[2]): match[0] for match in found}
    return tuple(
        names.get(number, f"shard {number} of {count}")
        for _, count in sets
        for number in range(1, min(count, MAX_FILES) + 1)
    )


def _is_here(path: Path) -> bool:
    """Whether this is a file of weights, and not a pointer to one that Git LFS did not fetch."""
    try:
        if not path.is_file():  # a dangling link, a pipe
            return False
        with path.open("rb") as file:
            return file.read(len(_LFS_POINTER)) != _LFS_POINTER
    except (OSError, ValueError):
        return True  # reading its header says what is wrong


def _headers(folder: Path, names: Iterable[str]) -> dict[str, tuple[StoredTensor, ...]]:
    headers: dict[str, tuple[StoredTensor, ...]] = {}
    room = MAX_HEADERS_BYTES
    for name in names:
        header = read_header(folder / name, min(MAX_HEADER_BYTES, room))
        room -= header.header_bytes
        headers[name] = header.tensors
    return headers


def select_tensors(
    headers: Mapping[str, Iterable[StoredTensor]],
    weight_map: Mapping[str, str] | None,
    where: str,
) -> tuple[StoredTensor, ...]:
    """Every tensor once: where two files have it, from the one that the index names.

    Raises SpecError for one that the index names and its file does not have.
    """
    homes: dict[str, str] = dict(weight_map or {})
    tensors: dict[str, StoredTensor] = {}
    for file, stored in headers.items():
        for tensor in stored:
            home = homes.get(tensor.name, file)
            if home == file and tensor.name in tensors:
                raise SpecError(
                    f"{where}: tensor {shown(tensor.name)} is in more than one file, {file} the "
                    "last of them, and no index says which counts"
                )
            if home == file:
                tensors[tensor.name] = tensor
    for name, home in homes.items():
        if name not in tensors:
            raise SpecError(
                f"{where}: the index names tensor {shown(name)} in {home}, which does not have it"
            )
    return tuple(tensors.values())


def _missing_note(files: _Files, missing: list[str]) -> str:
    of_index = f" that {files.index} names" if files.index else ""
    is_not = "is not here" if len(missing) == 1 else "are not here"
    return (
        f"weights are not read from safetensors headers: {len(missing)} of the {len(files.names)} "
        f"files{of_index} {is_not} ({few(missing)})"
    )


def _beside_note(present: tuple[str, ...], names: tuple[str, ...]) -> tuple[str, ...]:
    beside = [name for name in present if name not in names]
    return (f"not weighed: {few(beside)}, beside {few(names)}",) if beside else ()


def few(names: Iterable[str]) -> str:
    """The first of these names for a message, and how many more there are."""
    texts = [printable(name) for name in names]
    more = f" and {len(texts) - _NAMED} more" if len(texts) > _NAMED else ""
    return ", ".join(texts[:_NAMED]) + more
