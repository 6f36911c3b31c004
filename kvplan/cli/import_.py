"""``kvplan import``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from kvplan.cli.options import Assume, Json, Screen
from kvplan.cli.output import say, write
from kvplan.cli.values import OUTPUT, argument, choice, option
from kvplan.errors import UsageError


class ImportOutput(StrEnum):
    """What ``--format`` takes."""

    YAML = "yaml"
    TABLE = "table"
    JSON = "json"
    MARKDOWN = "markdown"
    CSV = "csv"


def _file(path: str) -> Path:
    """The file or folder. Raises UsageError for the name of a model, which is none."""
    from kvplan.registry.names import model_files

    if path.lower() in model_files() and not Path(path).exists():
        hint = f"kvplan show {path} shows it; a file is imported: ./config.json"
        raise UsageError(f"{path} is a model that kvplan knows, not a file", hint)
    return Path(path)


Format = Annotated[
    ImportOutput,
    choice("--format", metavar="FORMAT", among=ImportOutput, panel=OUTPUT, help_="How to print it"),
]
FromHub = Annotated[
    str | None,
    option("--from-hub", metavar="ORG/NAME[@REVISION]", help_="Fetch config.json from the hub."),
]
SpecFile = Annotated[
    str | None,
    option(
        "-o",
        "--output",
        metavar="FILE",
        panel=OUTPUT,
        help_="Write the spec here; - is stdout.",
    ),
]


def import_(
    path: Annotated[str | None, argument("PATH", "A config.json, or a folder with one.")] = None,
    from_hub: FromHub = None,
    spec_file: SpecFile = None,
    assume: Assume = None,
    output: Format = ImportOutput.YAML,
    json: Json = False,
    screen: Screen = Screen(),
) -> None:
    """Write the YAML spec that a config.json means, key by key.

    Each figure has the key that it came from beside it.

    Examples:
        # What does a checkpoint say of itself?
        kvplan import ./checkpoint
        # Keep it as a spec of your own, to change and to plan with.
        kvplan import ./checkpoint/config.json -o my-model.yaml
    """
    from kvplan import hf
    from kvplan.files import write_whole
    from kvplan.render import render
    from kvplan.views.class_defaults import class_default_notes
    from kvplan.views.show import import_report

    if (path is None) == (from_hub is None):
        raise UsageError("give either PATH or --from-hub ORG/NAME", "kvplan import ./config.json")
    source = hf.fetched_config(from_hub) if from_hub else _file(path or "")
    spec, origins = hf.read_config(source, assume, from_hub)
    form = "json" if json else output.value
    if form == "yaml":
        text = hf.to_yaml(spec, origins)
    else:
        text = render(import_report(spec, origins), form)
    if spec_file is None or spec_file == "-":
        write(text, form)
    else:
        write_whole(spec_file, text)
    say(spec.assumptions, class_default_notes([spec]), screen)
