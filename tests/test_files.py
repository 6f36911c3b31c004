"""Files are asked what they are: links, pipes and modes are kept, and nobody waits for ever."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from kvplan import files
from kvplan.errors import SpecError, UsageError
from kvplan.files import append, is_there, read_text, write_whole
from tests.command_line import Run
from tests.hf.configs import LLAMA, write

KILLS = int(os.environ.get("KVPLAN_KILLS", "4"))
"""How often a writing process is killed; a hundred and more to look for rare moments."""

LONG = "x" * 300


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PATIENCE_SECONDS", 0.1)


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".kvplan-")]


def test_a_mode_is_kept_and_a_new_file_has_what_the_umask_leaves(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("old")
    old.chmod(0o640)
    umask = os.umask(0o027)
    try:
        write_whole(old, "text")
        write_whole(new, "text")
    finally:
        os.umask(umask)
    assert (old.read_text(), new.read_text()) == ("text", "text")
    assert stat.S_IMODE(old.stat().st_mode) == 0o640
    assert stat.S_IMODE(new.stat().st_mode) == 0o666 & ~0o027
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stays_and_its_target_is_written(tmp_path: Path, exists: bool) -> None:
    target, link, second = tmp_path / "folder" / "target", tmp_path / "link", tmp_path / "second"
    target.parent.mkdir()
    if exists:
        target.write_text("old")
    link.symlink_to("folder/target")
    second.symlink_to(link)
    write_whole(second, "text")
    assert link.is_symlink()
    assert second.is_symlink()
    assert target.read_text() == "text"


def test_a_hard_link_is_parted_and_its_other_name_keeps_the_old_text(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("old")
    other.hardlink_to(one)
    write_whole(one, "text")
    assert (one.read_text(), other.read_text()) == ("text", "old")


def test_a_file_of_another_name_beside_it_is_never_followed(tmp_path: Path) -> None:
    """The name of old, ``.NAME.PID``, and any that a person could lay out beforehand."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / f".out.{os.getpid()}").symlink_to(victim)
    write_whole(tmp_path / "out", "text")
    assert victim.read_text() == "precious"


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("name", ["", ".", "folder", "folder/", "no/file", "no/", "loop", LONG])
def test_what_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("loop").symlink_to("loop")
    before = sorted(Path.cwd().iterdir())
    for text in (name, f"{name}\0"):
        with pytest.raises(UsageError) as caught:
            write_whole(text, "text")
        assert "\n" not in caught.value.message
    assert sorted(Path.cwd().iterdir()) == before


@pytest.mark.usefixtures("impatient")
def test_a_pipe_is_written_directly_and_never_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for attempt in (write_whole, append):
        with pytest.raises(UsageError, match="nobody at its other end"):
            attempt(pipe, "text")
    received: list[str] = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_text()))
    reader.start()
    monotonic = time.monotonic() + 10
    while not received and time.monotonic() < monotonic:
        try:
            write_whole(pipe, "text")
        except UsageError:
            continue
        reader.join(10)
    assert received == ["text"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_terminal_is_written_directly_and_never_replaced() -> None:
    controller, terminal = os.openpty()
    write_whole(os.ttyname(terminal), "text\n")
    assert os.read(controller, 100).strip() == b"text"
    assert stat.S_ISCHR(Path(os.ttyname(terminal)).stat().st_mode)


def test_a_descriptor_is_written_where_it_stands(tmp_path: Path) -> None:
    """``-o /dev/fd/N >> file`` adds to the file, as the shell opened it."""
    path = tmp_path / "file"
    path.write_text("before\n")
    with path.open("a") as file:
        write_whole(f"/dev/fd/{file.fileno()}", "text\n")
    assert path.read_text() == "before\ntext\n"


@pytest.mark.usefixtures("impatient")
def test_a_pipe_without_a_writer_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(SpecError, match="a pipe into which nobody writes"):
        read_text(pipe, 100, "spec file")


def test_a_pipe_is_read_whole_and_no_further_than_its_bound() -> None:
    text = "0123456789" * 20_000  # more than a pipe holds
    for most_bytes in (len(text), len(text) - 1):
        read, write_end = os.pipe()
        with subprocess.Popen(
            [sys.executable, "-c", f"import sys; sys.stdout.write('{text[:10]}' * 20_000)"],
            stdout=write_end,
            stderr=subprocess.DEVNULL,
        ):
            os.close(write_end)
            path = Path(f"/dev/fd/{read}")
            if most_bytes == len(text):
                assert read_text(path, most_bytes, "spec file") == text
            else:
                with pytest.raises(SpecError, match="larger than"):
                    read_text(path, most_bytes, "spec file")
            os.close(read)


def test_a_link_to_nothing_is_there_and_cannot_be_read(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("/nowhere/at/all")
    assert is_there(link)
    assert not is_there(tmp_path / "nothing")
    with pytest.raises(SpecError, match="a link to a file that is not there"):
        read_text(link, 100, "spec file")
    with pytest.raises(SpecError, match="File name too long"):
        is_there(tmp_path / LONG)


def _killed(arguments: list[str], after_seconds: float, with_signal: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "kvplan", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(after_seconds)
    process.send_signal(with_signal)
    process.wait()


@pytest.mark.parametrize("with_signal", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_command_leaves_the_old_file_or_the_new_one(
    run: Run, tmp_path: Path, with_signal: int
) -> None:
    """Killed at moments spread over the time that the command takes."""
    write(tmp_path, LLAMA)
    (tmp_path / "d.yaml").write_text("deployments: [{name: a, model: gpt2, gpu: h100, gpus: 1}]\n")
    commands = {
        "out.yaml": ["import", "config.json", "-o", "out.yaml"],
        "l.lock.json": ["check", "d.yaml", "--baseline", "l.lock.json", "--update-baseline"],
        "j.xml": ["check", "d.yaml", "--junit", "j.xml"],
    }
    for name, arguments in commands.items():
        file = tmp_path / name
        begin = time.monotonic()
        assert run(*arguments).returncode == 0
        subprocess.run(
            [sys.executable, "-m", "kvplan", *arguments], capture_output=True, check=True
        )
        seconds = time.monotonic() - begin
        new = file.read_text()
        old = new.replace("gpt2", "old") if name != "l.lock.json" else new
        for number in range(KILLS):
            file.write_text(old)
            _killed(arguments, seconds * (number + 1) / KILLS, with_signal)
            text = file.read_text()
            assert text == old or len(text) == len(new)
        if with_signal == signal.SIGINT:
            assert leftovers(tmp_path) == []
