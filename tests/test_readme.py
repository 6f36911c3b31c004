"""README.md is short, shows what the program prints, and names commands that run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import kvplan
from tests.command_line import cells
from tests.command_line import kvplan as command
from tests.docs import EXAMPLE, PICTURE, README, commands, part_of, prompt, readme_part, text_of

TEXT = README.read_text(encoding="utf-8")
ROWS = re.findall(r"^\| .* \| (`kvplan .*`) \|$", TEXT, re.MULTILINE)
SHOWN = [shlex.split(text)[1:] for row in ROWS for text in re.findall(r"`(kvplan [^`]+)`", row)]
NEEDS_A_FILE = {"import", "check", "measure"}  # a checkpoint, deployments, a device


def test_the_first_command_prints_what_is_shown() -> None:
    assert cells(part_of(TEXT)) == cells(readme_part())
    assert f"    pip install . && {prompt().removeprefix('$ ')}\n" in TEXT


def test_the_picture_shows_the_same_and_loads_nothing() -> None:
    svg = PICTURE.read_text(encoding="utf-8")
    screen = part_of(TEXT).removeprefix("```\n").removesuffix("```\n")
    assert text_of(svg) == f"{prompt()}\n{screen}"
    assert len(svg.encode()) < 30_000
    assert "@font-face" not in svg
    assert "url(http" not in svg


def test_it_is_no_longer_than_can_be_read() -> None:
    assert TEXT.count("\n") <= 150


def test_every_command_answers_a_question() -> None:
    assert {arguments[0] for arguments in SHOWN} == set(commands())


@pytest.mark.parametrize("arguments", [list(EXAMPLE), *SHOWN], ids=" ".join)
def test_the_commands_run(arguments: list[str]) -> None:
    if arguments[0] not in NEEDS_A_FILE:
        assert command(*arguments).returncode == 0


def test_the_number_of_models_is_right() -> None:
    assert re.findall(r"(\d+) of them", TEXT) == [str(len(kvplan.catalogue()))]


def test_links_lead_somewhere() -> None:
    for page in (README, *sorted((README.parent / "docs").glob("*.md"))):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert Path(page.parent, target).exists(), f"{page.name}: {target}"
