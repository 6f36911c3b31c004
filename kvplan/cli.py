"""The command line: load, ask, render, exit."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, NoReturn

import typer

from kvplan import __version__
from kvplan.errors import BUG, INTERRUPTED, KvplanError, SpecError, UsageError
from kvplan.report import Report

app = typer.Typer(
    name="kvplan",
    help="How much memory the KV cache of a large language model takes, right to the byte.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Output(StrEnum):
    """What ``--format`` takes."""

    TABLE = "table"
    JSON = "json"
    MARKDOWN = "markdown"
    CSV = "csv"


class ImportOutput(StrEnum):
    """What ``--format`` of ``kvplan import`` takes."""

    YAML = "yaml"
    TABLE = "table"
    JSON = "json"
    MARKDOWN = "markdown"
    CSV = "csv"


class Catalogue(StrEnum):
    """What ``kvplan list`` lists."""

    MODELS = "models"
    GPUS = "gpus"
    FORMATS = "formats"


Format = Annotated[Output, typer.Option("--format", help="How to print the answer.")]
Json = Annotated[bool, typer.Option("--json", help="Short for --format json.")]
KVDtype = Annotated[
    str,
    typer.Option(
        "--kv-cache-dtype",
        metavar="DTYPE",
        help="KV cache dtype, in vLLM's names; see list formats.",
    ),
]
Assume = Annotated[
    str | None,
    typer.Option(
        "--assume",
        metavar="kind=KIND",
        help="Take every layer of an unknown config.json for this kind.",
    ),
]
Draft = Annotated[bool, typer.Option("--draft", help="Count the draft (MTP) layers' cache too.")]


@app.command()
def compare(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="Names, Hugging Face ids or spec files.")
    ],
    ctx: Annotated[
        str,
        typer.Option(
            "--ctx", "--max-model-len", metavar="TOKENS", help="Context: 131072, 128k, 1M."
        ),
    ] = "128k",
    sequences: Annotated[
        int, typer.Option("--sequences", "--max-num-seqs", min=1, help="Sequences of that length.")
    ] = 1,
    kv_cache_dtype: KVDtype = "auto",
    gpu: Annotated[str, typer.Option("--gpu", help="GPU to lay out on; see list gpus.")] = (
        "h100-sxm-80gb"
    ),
    gpus: Annotated[
        int | None,
        typer.Option(
            "--gpus", min=1, help="GPUs there are: one tensor-parallel group, or groups of -tp."
        ),
    ] = None,
    tensor_parallel: Annotated[
        int | None,
        typer.Option("--tensor-parallel-size", "-tp", min=1, help="GPUs a tensor-parallel group."),
    ] = None,
    variants: Annotated[
        bool, typer.Option("--variants", help="Show one model as MHA, GQA-8, MQA and as it is.")
    ] = False,
    draft: Draft = False,
    assume: Assume = None,
    output: Format = Output.TABLE,
    json: Json = False,
) -> None:
    """Put models side by side: bytes per token, cache, weights, GPUs, longest context."""
    from kvplan import comparison
    from kvplan.answers.compare import compare_report
    from kvplan.registry import load
    from kvplan.units import parse_tokens

    if variants and len(models) != 1:
        raise UsageError("--variants draws one model at a time", "name a single MODEL")
    specs = [load(model, _assumed_kind(assume)) for model in models]
    if variants:
        specs, kv_cache_dtype = comparison.variants(specs[0], kv_cache_dtype), "auto"
    result = comparison.compare(
        specs,
        parse_tokens(ctx),
        sequences,
        kv_cache_dtype,
        gpu,
        gpus,
        tensor_parallel,
        draft=draft,
    )
    _answer(compare_report(result), output, json)


@app.command()
def show(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name, Hugging Face id or file.")],
    kv_cache_dtype: KVDtype = "auto",
    draft: Draft = False,
    assume: Assume = None,
    output: Format = Output.TABLE,
    json: Json = False,
) -> None:
    """Show what each group of a model's layers keeps, with the formula and its numbers."""
    from kvplan.answers.show import show_report
    from kvplan.registry import load

    spec = load(model, _assumed_kind(assume))
    _answer(show_report(spec, kv_cache_dtype, draft=draft), output, json)


@app.command("list")
def list_(
    what: Annotated[Catalogue, typer.Argument(help="What to list.")] = Catalogue.MODELS,
    kind: Annotated[
        str | None, typer.Option("--kind", help="Only models with this kind of cache: mla, gqa.")
    ] = None,
    output: Format = Output.TABLE,
    json: Json = False,
) -> None:
    """List the models, GPUs or KV cache dtypes that kvplan knows."""
    from kvplan.answers import listing
    from kvplan.registry import gpus, models_of_kind

    if kind is not None and what is not Catalogue.MODELS:
        raise UsageError(
            f"--kind narrows models, not {what.value}", "kvplan list models --kind mla"
        )
    match what:
        case Catalogue.MODELS:
            report = listing.models_report(models_of_kind(kind), kind)
        case Catalogue.GPUS:
            report = listing.gpus_report(gpus())
        case Catalogue.FORMATS:
            report = listing.formats_report()
    _answer(report, output, json)


@app.command("import")
def import_(
    path: Annotated[
        str | None, typer.Argument(metavar="PATH", help="A config.json, or a folder with one.")
    ] = None,
    from_hub: Annotated[
        str | None,
        typer.Option(
            "--from-hub", metavar="ORG/NAME[@REVISION]", help="Fetch config.json from the hub."
        ),
    ] = None,
    spec_file: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FILE", help="Write the spec here.")
    ] = None,
    assume: Assume = None,
    output: Annotated[ImportOutput, typer.Option("--format", help="How to print it.")] = (
        ImportOutput.YAML
    ),
    json: Json = False,
) -> None:
    """Write the YAML spec that a config.json means, each figure with the key it came from."""
    from pathlib import Path

    from kvplan import hf
    from kvplan.answers.show import import_report
    from kvplan.files import write_whole
    from kvplan.render import rendered

    if (path is None) == (from_hub is None):
        raise UsageError("give either PATH or --from-hub ORG/NAME", "kvplan import ./config.json")
    source = hf.fetched_config(from_hub) if from_hub else Path(path or "")
    spec, origins = hf.read_config(source, _assumed_kind(assume), from_hub)
    text = hf.to_yaml(spec, origins)
    if output is not ImportOutput.YAML or json:
        report = import_report(spec, origins)
        text = rendered(report, "json" if json else Output(output.value).value)
    _warn(spec.assumptions)
    if spec_file is None:
        _write(text)
    else:
        write_whole(Path(spec_file), text)


def _assumed_kind(assume: str | None) -> str | None:
    if assume is None:
        return None

    key, _, kind = assume.partition("=")
    if key != "kind" or not kind:
        raise UsageError(f"--assume {assume} is not understood", "write --assume kind=mla")
    return kind


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"kvplan {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version


def _answer(report: Report, output: Output, json: bool) -> NoReturn:
    from kvplan.render import rendered

    text = rendered(report, "json" if json else output.value)
    _warn(report.warnings)
    for note in report.notes:
        _complain(f"note: {note}")
    _write(text)
    raise typer.Exit(report.exit_code)


def _write(text: str) -> None:
    if sys.stdout is None:
        raise OSError(0, "stdout is closed")
    sys.stdout.write(text)
    sys.stdout.flush()


def _warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        _complain(f"warning: {warning}")


def _complain(*lines: str) -> None:
    from kvplan.render.plain import visible

    for line in lines:
        print(visible(line), file=sys.stderr)


def main() -> NoReturn:
    """Entry point: every error becomes one clear line and the contract's exit code."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    try:
        # Asked to stand aside, typer raises what it would print over three lines and a box.
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False) or 0
    except BrokenPipeError:
        # The reader went away (`kvplan list | head`); nothing is left to say, or to flush.
        sys.stderr.close()
        code = 0
    except Exception as error:  # noqa: BLE001 - a traceback would exit 1: "does not fit"
        code = _reported(error)
    sys.exit(code)


def _reported(error: Exception) -> int:
    """Exit code of this error, which is put in one line, its hint in another."""
    match error:
        case SpecError():
            _complain(*f"error: {error.message}".split("\n"))
        case KvplanError():
            _complain(f"error: {error.message}", *([f"  {error.hint}"] if error.hint else []))
        case typer.TyperException():
            hint = "  kvplan --help shows the commands, kvplan COMMAND --help their options"
            _complain(f"error: {error.format_message()}", hint)
        case typer.Abort():
            return INTERRUPTED
        case OSError():
            _complain(f"error: the answer cannot be written: {error.strerror}")
            return UsageError.exit_code
        case _:
            bug = f"error: a bug in kvplan: {type(error).__name__}: {error}"
            _complain(bug, "  please report it with the command line that led here")
            return BUG
    return error.exit_code
