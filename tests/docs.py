"""What of the documentation the program itself prints: ``python -m tests.docs`` writes it anew.

That is the screen in README.md, the picture of it, a check that fails in docs/checks.md, and every
command's help in docs/commands.md;
``tests/test_docs.py`` holds them to what is printed today.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import chdir
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree as ET

import typer
from rich.console import Console
from rich.text import Text

from kvplan.cli.app import app
from tests.command_line import kvplan

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
COMMANDS = ROOT / "docs" / "commands.md"
CHECKS = ROOT / "docs" / "checks.md"
PICTURE = ROOT / "docs" / "compare.svg"

EXAMPLE = ("compare", "llama3.3-70b", "deepseek-v3", "--ctx", "128k")
COLUMNS = 80

_BEGIN = "<!-- python -m tests.docs writes what follows -->\n"
_END = "<!-- as far as here -->\n"
_CELL = 12.2  # SVG units of a column: rich's characters of 20 units are 0.61 as wide
_FONT_FACE = re.compile(r"\s*@font-face {.*?}", re.DOTALL)


def screen(*arguments: str, coloured: bool = False) -> str:
    """What a terminal of 80 columns shows of the command: the answer, then its notes."""
    printed = kvplan(*arguments, columns=COLUMNS, coloured=coloured)
    shown = printed.stdout + printed.stderr
    return shown if coloured else Text.from_ansi(shown).plain.rstrip("\n") + "\n"


def commands() -> list[str]:
    """The names of all commands, as ``kvplan --help`` orders them."""
    group: Any = typer.main.get_command(app)
    return list(group.commands)


def help_of_commands() -> Iterator[str]:
    """The help of kvplan and of each command, under a heading of its own."""
    for command in ((), *((name,) for name in commands())):
        title = " ".join(("kvplan", *command))
        yield f"## {title}\n\n```\n{screen(*command, '--help')}```\n"


def written(text: str, part: str) -> str:
    """The text with this in its part that is written by the program."""
    before, after = text.split(_BEGIN)
    return f"{before}{_BEGIN}{part}{_END}{after.split(_END)[1]}"


def part_of(text: str) -> str:
    """That part as it stands."""
    return text.split(_BEGIN)[1].split(_END, maxsplit=1)[0]


def readme_part() -> str:
    """The screen of the first command."""
    return f"```\n{screen(*EXAMPLE)}```\n"


def commands_part() -> str:
    """Every command's help."""
    return "\n".join(help_of_commands())


def deployments() -> str:
    """The deployments in docs/checks.md."""
    blocks: list[str] = re.findall(r"```yaml\n(defaults:\n.*?)```", _read(CHECKS), re.DOTALL)
    return blocks[0]


def checks_part() -> str:
    """What a check says of them with a context of which not all sequences fit."""
    with TemporaryDirectory() as folder, chdir(folder):
        longer = deployments().replace("context: 32k", "context: 64k")
        Path("deploy.yaml").write_text(longer, encoding="utf-8")
        return f"```\n$ kvplan check deploy.yaml\n{screen('check', 'deploy.yaml')}```\n"


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def picture() -> str:
    """The same screen with the command above it, as an SVG that loads nothing from elsewhere."""
    console = Console(record=True, width=COLUMNS, file=StringIO(), force_terminal=True)
    console.print(Text(prompt(), style="bold"))
    console.print(Text.from_ansi(screen(*EXAMPLE, coloured=True).rstrip("\n")))
    return _FONT_FACE.sub("", console.export_svg(title="kvplan"))


def prompt() -> str:
    """The command as it is typed."""
    return f"$ kvplan {' '.join(EXAMPLE)}"


def text_of(svg: str) -> str:
    """The lines that a picture shows, each character in its column."""
    lines: dict[int, str] = {}
    drawing = ET.fromstring(svg)  # noqa: S314 - a picture that rich drew
    for element in drawing.iter("{http://www.w3.org/2000/svg}text"):
        line = re.search(r"-line-(\d+)", element.get("clip-path", ""))
        if line:
            number, column = int(line[1]), round(float(element.get("x", 0)) / _CELL)
            lines[number] = lines.get(number, "").ljust(column) + (element.text or "")
    shown = (lines.get(number, "") for number in range(max(lines) + 1))
    return "".join(f"{line.replace(chr(0xA0), ' ').rstrip()}\n" for line in shown)


def main() -> None:
    """Write all four."""
    parts = {README: readme_part(), CHECKS: checks_part(), COMMANDS: commands_part()}
    for path, part in parts.items():
        path.write_text(written(_read(path), part), encoding="utf-8")
    PICTURE.write_text(picture(), encoding="utf-8")


if __name__ == "__main__":
    main()
