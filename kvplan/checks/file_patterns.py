"""The files that names and patterns mean, with nobody's shell in between."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path

from kvplan.errors import SpecError

MAX_FILES = 10_000
"""Files of one run."""
MAX_NAMES = 200_000
"""Names in folders that one pattern may look at: what a large repository has."""

_MAGIC = re.compile(r"[*?\[]")
_WILDCARD = re.compile(r"[*?]")
_ANY_DEPTH = "**"
_NO_FOLDER = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}


def matching_files(names: Iterable[str | Path]) -> Iterator[tuple[Path, SpecError | None]]:
    """Each file once, in the order of the names, those of one pattern sorted.

    A name without ``* ? [`` is that file; so is one with brackets alone where it exists as it is
    written (``[prod].yaml``), and so is a Path. Any other is a pattern, and comes back with an
    error where no file matches it or too many do: ``*`` and ``?`` stand for characters of one
    name, ``[...]`` and ``[!...]`` for one of a set, ``**`` for any number of folders. A file that
    is itself called ``*`` is one of those that match and hides none of them. As in a shell, none
    of them stands for a leading dot, and ``**`` goes through a link to a folder but no deeper.
    """
    places = _Places()
    known: set[tuple[str, str]] = set()
    for name in names:
        try:
            files = _files(name, places)
        except SpecError as error:
            yield Path(name), error
            continue
        for file in files:
            place = places.of(file)
            if place in known:
                continue
            known.add(place)
            if len(known) > MAX_FILES:
                yield Path(name), _too_many()
                return
            yield file, None


class _Places:
    """Where files lie once links to folders are followed: two names of one place are one file."""

    def __init__(self) -> None:
        self._folders: dict[Path, str] = {}

    def of(self, file: Path) -> tuple[str, str]:
        """The folder itself, and the name in it."""
        folder = file.parent
        if folder not in self._folders:
            try:
                self._folders[folder] = os.path.realpath(folder)
            except ValueError:  # a null byte, which reading the file complains of
                self._folders[folder] = str(folder)
        return self._folders[folder], file.name

    def once(self, files: Iterable[Path]) -> list[Path]:
        """One name of each file, where it can be one without links, sorted."""
        best: dict[tuple[str, str], Path] = {}
        for file in sorted(files, key=lambda file: (self._by_link(file), file)):
            best.setdefault(self.of(file), file)
        return sorted(best.values())

    def _by_link(self, file: Path) -> bool:
        return self.of(file)[0] != str(file.parent.absolute())


def _too_many() -> SpecError:
    return SpecError(f"more than {MAX_FILES:,} files; check fewer at a time")


def _files(name: str | Path, places: _Places) -> list[Path]:
    """The file of this name, or those that match it. Raises SpecError where none does."""
    if isinstance(name, Path) or not _MAGIC.search(name):
        return [Path(name)]
    if not _WILDCARD.search(name) and os.path.lexists(name):
        return [Path(name)]
    pattern = Path(name)
    parts = pattern.parts[1:] if pattern.anchor else pattern.parts
    if parts[-1] == _ANY_DEPTH:
        parts = (*parts, "*")
    found = list(islice(_Search().matches(Path(pattern.anchor), parts), MAX_FILES + 1))
    if len(found) > MAX_FILES:
        raise _too_many()
    if not found:
        raise SpecError("no file matches this pattern")
    return places.once(found)


class _Search:
    """The search for one pattern, which looks at so many names and no more."""

    def __init__(self) -> None:
        self._looked_at = 0

    def matches(self, start: Path, parts: tuple[str, ...]) -> Iterator[Path]:
        """All that matches these parts below the start, but folders."""
        pending = [(start, parts)]
        seen: set[tuple[Path, tuple[str, ...]]] = set()
        while pending:
            step = pending.pop()
            if step in seen:
                continue
            seen.add(step)
            folder, (part, *rest) = step
            if part == _ANY_DEPTH:
                pending.append((folder, tuple(rest)))
                for inner, linked in self._folders(folder):
                    pending.append((inner, tuple(rest) if linked else step[1]))
            elif rest:
                pending += [(path, tuple(rest)) for path in self._named(folder, part)]
            else:
                yield from (path for path in self._named(folder, part) if not _is_folder(path))

    def _folders(self, folder: Path) -> Iterator[tuple[Path, bool]]:
        """The folders in this one that are not hidden, and which of them are links."""
        for entry in self._entries(folder):
            linked = entry.is_symlink()
            if not entry.name.startswith(".") and (_is_folder(entry) if linked else entry.is_dir()):
                yield Path(entry.path), linked

    def _named(self, folder: Path, part: str) -> Iterator[Path]:
        """What in this folder has that name, or one that matches it."""
        if not _MAGIC.search(part):
            path = folder / part
            yield from [path] if os.path.lexists(path) else []
            return
        for entry in self._entries(folder):
            hidden = entry.name.startswith(".") and not part.startswith(".")
            if not hidden and fnmatchcase(entry.name, part):
                yield Path(entry.path)

    def _entries(self, folder: Path) -> Iterator[os.DirEntry[str]]:
        """What is in this folder; nothing where it is none, as a link to itself is."""
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    self._looked_at += 1
                    if self._looked_at > MAX_NAMES:
                        raise SpecError(f"looks at more than {MAX_NAMES:,} names; name the folder")
                    yield entry
        except OSError as error:
            if error.errno not in _NO_FOLDER:
                raise SpecError(f"{folder} cannot be listed: {error.strerror}") from None


def _is_folder(path: os.PathLike[str]) -> bool:
    """Whether it is a folder, or leads to one; what cannot be looked at is none."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises where a link leads nowhere
