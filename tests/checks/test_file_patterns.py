"""Which files a name or a pattern means, held against a shell's own expansion."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from itertools import product
from pathlib import Path

import pytest

from kvplan.checks import file_patterns
from kvplan.checks.file_patterns import matching_files
from tests.checks.deployments import findings, write
from tests.command_line import Run

FITS = "deployments: [{name: a, model: llama3-8b, gpu: h100, gpus: 1, context: 8k, sequences: 1}]\n"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folders three deep, hidden ones too, with links to a folder, to its own, and to nothing."""
    for first, second in product(("a", "ab", ".h", "[x]"), ("b", "c d", ".i")):
        folder = tmp_path / first / second
        folder.mkdir(parents=True)
        for name in ("a.yaml", "-b.yaml", "[ab].yaml", ".c.yaml", "new\nline.yml"):
            (folder / name).touch()
            (folder.parent / name).touch()
    (tmp_path / "a" / "loop").symlink_to("..")
    (tmp_path / "ab" / "self").symlink_to("self")
    (tmp_path / "dangling.yaml").symlink_to("nowhere")
    (tmp_path / "folder.yaml").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files_of(*names: str | Path) -> list[str]:
    """The files; an error is its sentence in brackets."""
    return [f"({error})" if error else str(path) for path, error in matching_files(names)]


PATTERNS = (
    *("*", "*.yaml", "*/*", "*/*.yaml", "**/*.yaml", "**/b/*", "**/[a-c].yaml", "a*/**/*.y?ml"),
    *(".*/*", ".h/**/*.yaml", "*/.c.yaml", "**/.i/*", "a/loop/ab/*.yaml", "*/loop/a/*.yaml"),
    *("./a/*.yaml", "a//b/*", "a/../ab/*", "[!a]*/*/*", "**/**/a.yaml", "?/?/?.yaml", "*/-*"),
    *("[[]x]/*.yaml", "**/[[]ab].yaml", "*\n*", "**/*\n*", "no/*", "dangling.yaml/*", "*/self/*"),
    *("[]x]", "[", "[a", "a]*", "*[*", "b/**/c*", "**/c d/a.yaml", "nothing*", "**"),
)


def shell_s(pattern: str) -> set[Path]:
    """What bash makes of it, but folders: a name that matches nothing stays none."""
    bash = shutil.which("bash")
    assert bash is not None
    program = 'shopt -s globstar nullglob; IFS=; printf "%s\\0" $1'
    printed = subprocess.run(
        [bash, "-c", program, "-", pattern], capture_output=True, check=True
    ).stdout
    paths = map(Path, filter(None, os.fsdecode(printed).split("\0")))
    return {path for path in paths if os.path.lexists(path) and not path.is_dir()}


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is what it is held against")
@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_matches_what_it_does_in_bash(tree: Path, pattern: str) -> None:
    """Once each: what bash finds by a link as well is the same file."""
    expected = shell_s(pattern)
    found = [path for path, error in matching_files([pattern]) if error is None]
    assert found == sorted(found)
    assert set(found) <= expected or pattern == "**"
    places = [(path.parent.resolve(), path.name) for path in found]
    assert len(places) == len(set(places))
    assert set(places) == {(path.parent.resolve(), path.name) for path in expected}
    assert tree == Path.cwd()


def test_a_name_with_brackets_is_the_file_of_that_name(tree: Path) -> None:
    (tree / "p.yaml").touch()
    assert files_of("[prod].yaml") == ["p.yaml"]
    (tree / "[prod].yaml").touch()
    assert files_of("[prod].yaml") == ["[prod].yaml"]
    assert files_of(Path("[q]*.yaml")) == ["[q]*.yaml"]


def test_a_file_that_is_called_like_a_pattern_hides_none(tree: Path) -> None:
    for name in ("x1.yaml", "x*.yaml"):
        (tree / name).touch()
    assert files_of("x*.yaml") == ["x*.yaml", "x1.yaml"]


def test_names_keep_their_order_and_come_once(tree: Path) -> None:
    absolute = str(tree / "a" / "a.yaml")
    names = ("a/b/a.yaml", "a/*.yaml", absolute, "./a/b/../a.yaml", "a/loop/a/a.yaml", "gone")
    assert files_of(*names) == [
        "a/b/a.yaml",
        *("a/-b.yaml", "a/[ab].yaml", "a/a.yaml"),
        "gone",
    ]


def test_a_pattern_without_a_file_is_an_error_beside_one_that_has_some(
    run: Run, tmp_path: Path
) -> None:
    write(tmp_path, FITS)
    code, found = findings(run, "deploy*.yaml", "other/*.yaml")
    assert code == 2
    told = [(finding["file"], finding["status"], finding["message"]) for finding in found]
    assert told[-1] == ("other/*.yaml", "error", "no file matches this pattern")
    assert [finding["status"] for finding in found].count("passed") == len(found) - 1 > 0


@pytest.mark.usefixtures("tree")
def test_too_many_files_or_names_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_patterns, "MAX_FILES", 2)
    assert files_of("**/*.yaml") == ["(more than 2 files; check fewer at a time)"]
    assert files_of("p", "q", "r", "s") == ["p", "q", "(more than 2 files; check fewer at a time)"]
    monkeypatch.setattr(file_patterns, "MAX_NAMES", 10)
    assert files_of("**/none*") == ["(looks at more than 10 names; name the folder)"]


def test_a_folder_that_cannot_be_listed_is_an_error(tree: Path) -> None:
    (tree / "closed").mkdir(mode=0)
    if os.access(tree / "closed", os.R_OK):
        pytest.skip("this user may list every folder")
    assert files_of("*/*.yaml") == ["(closed cannot be listed: Permission denied)"]


@pytest.mark.usefixtures("tree")
def test_any_text_is_a_pattern_or_none() -> None:
    draw = random.Random(20261130)  # noqa: S311
    for _ in range(1_000):
        text = "".join(draw.choices("*?[]!-/.ab^&~|\\{},\n\0é", k=draw.randint(1, 12)))
        for path, error in matching_files([f"a/{text}"]):
            assert error or os.path.lexists(path) or not set(text) & set("*?[")
    assert files_of("*" * 5_000 + "b") == ["(no file matches this pattern)"]
    assert files_of("*/../" * 300 + "*") != []


def test_a_quoted_pattern_is_expanded_on_the_command_line(run: Run, tmp_path: Path) -> None:
    for name in ("deploy/b.yaml", "deploy/c/a.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path, FITS, name)
    result = run("check", "deploy/**/*.yaml", "--json")
    assert result.returncode == 0
    assert result.document["inputs"]["files"] == ["deploy/b.yaml", "deploy/c/a.yaml"]


def test_junit_is_written_beside_the_answer(run: Run, tmp_path: Path) -> None:
    write(tmp_path, FITS)
    alone = run("check", "deploy.yaml", "--format", "junit").stdout
    beside = run("check", "deploy.yaml", "--junit", "out.xml", "--json")
    assert (beside.returncode, beside.document["summary"]["failed"]) == (0, 0)

    def plain(text: str) -> list[str]:
        return [line.partition(" timestamp=")[0] for line in text.splitlines()]

    assert plain((tmp_path / "out.xml").read_text(encoding="utf-8")) == plain(alone)
    missing = run("check", "deploy.yaml", "--junit", "no/out.xml")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert missing.stderr.startswith("error: no/out.xml: cannot be written: ")
