"""Small text files: read with a bound and without waiting for nobody, written whole or not at all.

What a path is (file, link, pipe, device, folder) is asked before it is touched. A pipe that nobody
holds at its other end is given ``PATIENCE_SECONDS``, as the other program may be about to start.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from kvplan.errors import SpecError, UsageError

CHECKPOINT_FILES = ("config.json", "params.json")
"""What makes a folder a checkpoint: either of these, the first before Mistral's own form."""

PATIENCE_SECONDS = 2.0
"""How long another program may take to open its end of a pipe, or to let go of a lock."""

_PAUSE_SECONDS = 0.02
_MOST_LINKS = 40
# Flags that Windows does not have, where there is nothing for them to do.
_NO_WAIT: int = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_NO_LINK: int = getattr(os, "O_NOFOLLOW", 0)
_PLAIN: int = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def read_text(path: Path, most_bytes: int, what: str) -> str:
    """The text of this file, which is to be a ``what``. Raises SpecError naming the file.

    A pipe is read to its end once somebody writes into it (``<(command)``, /dev/stdin); a device
    is read no further than ``most_bytes``.
    """
    try:
        if path.is_dir():
            raise SpecError(f"{path}: is a folder, not a {what}")
        content = _content(path, most_bytes + 1)
    except (OSError, ValueError) as error:
        raise SpecError(f"{path}: cannot be read: {_why_unread(path, error)}") from None
    if content.startswith(b"GGUF"):
        raise SpecError(f"{path}: a GGUF file, not a {what}; give the model's config.json instead")
    if len(content) > most_bytes:
        raise SpecError(f"{path}: larger than {most_bytes:,} bytes; it is not a {what}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SpecError(f"{path}: not a text file (it is not UTF-8)") from None


def is_there(path: Path) -> bool:
    """Whether a file of this name stands in its folder, be it readable or not.

    A link whose target is gone counts as there, for what the file says is then not known. Raises
    SpecError where the folder does not tell.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        raise SpecError(f"{path}: cannot be read: {_reason(error)}") from None
    return True


def _content(path: Path, most_bytes: int) -> bytes:
    """The beginning of this file; of a pipe, once somebody writes into it."""
    descriptor = os.open(path, os.O_RDONLY | _NO_WAIT | _PLAIN)
    with os.fdopen(descriptor, "rb") as file:
        is_pipe = stat.S_ISFIFO(os.fstat(descriptor).st_mode)
        first = _first_bytes(descriptor, most_bytes) if is_pipe else b""
        if _NO_WAIT:
            os.set_blocking(descriptor, True)
        return first + file.read(most_bytes - len(first))


def _first_bytes(descriptor: int, most_bytes: int) -> bytes:
    """What a pipe has to begin with; nothing where its writer has not written yet.

    Without a writer a pipe is at its end at once. Raises TimeoutError where none comes.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            first = os.read(descriptor, min(most_bytes, 1 << 16))
        except BlockingIOError:
            return b""
        if first:
            return first
        time.sleep(_PAUSE_SECONDS)
    raise TimeoutError(errno.ETIMEDOUT, "a pipe into which nobody writes")


def _why_unread(path: Path, error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError) and path.is_symlink():
        return "a link to a file that is not there"
    return _reason(error)


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        if error.errno == errno.ENXIO:
            return "a pipe or socket with nobody at its other end"
        return error.strerror or type(error).__name__
    return "no file can have such a name"


def write_whole(path: str | Path, text: str) -> None:
    """The text in this file, or the file as it was. Raises UsageError where it cannot be written.

    What the path names is asked first:

    - A regular file, or none: the text is written beside it under a random name that is made anew
      (an existing one, or a link, is never opened), flushed to the disk and renamed. A link stays
      and what it points to is written, be it there or not. Mode and, where the system permits it,
      owner are kept; a new file has what the umask leaves. A hard link is parted from its other
      names, which keep the old text. A file that may not be written is refused, though its
      folder would let it be replaced; so is one in whose folder nothing can be put, as writing in
      place could leave half of the text.
    - A pipe, a terminal or another character device, or a descriptor of this process (/dev/stdout,
      ``>(command)``): written directly and never replaced. A pipe that nobody reads is an error.
    - A folder, a disk or a socket: an error.
    """
    if not os.fspath(path):
        raise UsageError("the name of the file to write is empty")
    content = _encoded(text, path)
    try:
        if (descriptor := _own_descriptor(path)) is not None:
            _write(os.dup(descriptor), content)
        elif (mode := _mode(path)) is None or stat.S_ISREG(mode):
            _replace(Path(os.path.realpath(path)), content)
        else:
            _write(_opened_to_write(path, mode), content)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be written: {_reason(error)}") from None


def append(path: str | Path, text: str) -> None:
    """The text at the end of this file. Raises UsageError where it cannot be written."""
    content = _encoded(text, path)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | _NO_WAIT | _PLAIN
    try:
        _write(os.open(path, flags, 0o666), content)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be written: {_reason(error)}") from None


def _encoded(text: str, path: str | Path) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{path}: cannot be written: its text is not Unicode") from None


def _mode(path: str | Path) -> int | None:
    """What kind of file this is, through all links; None where there is none yet."""
    try:
        mode = Path(path).stat().st_mode
    except FileNotFoundError:
        if os.fspath(path).endswith(os.sep):
            raise OSError(errno.EISDIR, "a folder that is not there") from None
        _folder_of(path)
        return None
    refused = {stat.S_IFDIR: "it is a folder", stat.S_IFBLK: "a disk", stat.S_IFSOCK: "a socket"}
    if problem := refused.get(stat.S_IFMT(mode)):
        raise OSError(errno.EINVAL, problem)
    return mode


def _folder_of(path: str | Path) -> Path:
    folder = Path(os.path.realpath(path)).parent
    if not folder.is_dir():
        raise FileNotFoundError(errno.ENOENT, f"there is no folder {folder}")
    return folder


def _own_descriptor(path: str | Path) -> int | None:
    """The descriptor of this process that a path such as /dev/stdout stands for.

    To open its file anew would write over what it holds already (``-o /dev/stdout >> file``).
    """
    of_process = ("/dev/fd", f"/proc/{os.getpid()}/fd")
    place = Path(path).absolute()
    for _ in range(_MOST_LINKS):
        folders = (os.fspath(place.parent), os.path.realpath(place.parent))
        if place.name.isdecimal() and any(folder in of_process for folder in folders):
            return int(place.name)
        if not place.is_symlink():
            return None
        place = place.parent / place.readlink()
    return None


def _replace(target: Path, content: bytes) -> None:
    """The content under the target's name, by a file beside it; nothing is left on an error."""
    old = target.stat() if target.exists() else None
    if old is not None and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "it is read-only")
    beside = target.with_name(f".kvplan-{secrets.token_hex(8)}")
    try:
        _write(_new_file(beside, 0o666 if old is None else 0o600), content, kept=old)
        beside.replace(target)
    except FileExistsError:
        raise
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _flush_folder(target.parent)


def _new_file(path: Path, mode: int) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK | _PLAIN, mode)
    except PermissionError as error:
        problem = f"nothing can be put in its folder ({error.strerror})"
        raise PermissionError(error.errno, problem) from None


def _write(descriptor: int, content: bytes, kept: os.stat_result | None = None) -> None:
    """All of the content into this descriptor, which is closed; owner and mode as in ``kept``."""
    try:
        if _NO_WAIT:
            os.set_blocking(descriptor, True)
        if kept is not None:
            _keep(descriptor, kept)
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _keep(descriptor: int, old: os.stat_result) -> None:
    if sys.platform != "win32":
        with contextlib.suppress(OSError):
            os.fchown(descriptor, old.st_uid, old.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(old.st_mode) & 0o1777)


def _opened_to_write(path: str | Path, mode: int) -> int:
    """The pipe or device, open for writing; a pipe once somebody reads from it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            descriptor = os.open(os.path.realpath(path), os.O_WRONLY | _NO_WAIT | _NO_LINK | _PLAIN)
            break
        except OSError as error:
            is_alone = error.errno == errno.ENXIO and stat.S_ISFIFO(mode)
            if not is_alone or time.monotonic() > deadline:
                raise
        time.sleep(_PAUSE_SECONDS)
    if stat.S_IFMT(os.fstat(descriptor).st_mode) != stat.S_IFMT(mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it became another file meanwhile")
    return descriptor


def _flush_folder(folder: Path) -> None:
    """The new name on the disk too, where a folder can be flushed."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def alone(path: str | Path) -> Iterator[None]:
    """No other kvplan between reading and writing this file, be it there yet or not.

    The file's folder is locked (flock), which leaves nothing behind however a process ends. Where
    folders cannot be locked (Windows, some network file systems) nothing is. Raises UsageError
    where another process does not let go of it.
    """
    if sys.platform == "win32":
        yield
        return
    try:
        descriptor = os.open(_folder_of(path), os.O_RDONLY | _PLAIN)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be written: {_reason(error)}") from None
    try:
        _lock(descriptor, path)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: str | Path) -> None:
    import fcntl

    deadline = time.monotonic() + 5 * PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE_SECONDS)
        except OSError:  # a file system that knows no locks of folders
            return
        else:
            return
    problem = f"{path}: another process is writing in its folder"
    raise UsageError(problem, "try again when it is done")
