"""The command line: load, ask, render, exit."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated, NoReturn

import typer

from kvplan import __version__
from kvplan.errors import BUG, KvplanError
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
        typer.Option("--gpus", min=1, help="How many there are, instead of finding out."),
    ] = None,
    tensor_parallel: Annotated[
        int | None,
        typer.Option("--tensor-parallel-size", "-tp", min=1, help="GPUs a tensor-parallel group."),
    ] = None,
    variants: Annotated[
        bool, typer.Option("--variants", help="Show one model as MHA, GQA-8, MQA and as it is.")
    ] = False,
    draft: Draft = False,
    output: Format = Output.TABLE,
    json: Json = False,
) -> None:
    """Put models side by side: bytes per token, cache, weights, GPUs, longest context."""
    from kvplan import answers, comparison
    from kvplan.errors import UsageError
    from kvplan.units import parse_tokens

    if variants and len(models) != 1:
        raise UsageError("--variants draws one model at a time", "name a single MODEL")
    result = comparison.compare(
        comparison.variants(models[0]) if variants else models,
        parse_tokens(ctx),
        sequences,
        kv_cache_dtype,
        gpu,
        gpus,
        tensor_parallel,
        draft=draft,
    )
    _answer(answers.compare_report(result), output, json)


@app.command()
def show(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name, Hugging Face id or file.")],
    kv_cache_dtype: KVDtype = "auto",
    draft: Draft = False,
    output: Format = Output.TABLE,
    json: Json = False,
) -> None:
    """Show what each group of a model's layers keeps, with the formula and its numbers."""
    from kvplan import answers
    from kvplan.registry import load

    _answer(answers.show_report(load(model), kv_cache_dtype, draft=draft), output, json)


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
    from kvplan import answers
    from kvplan.registry import gpus, models_of_kind

    match what:
        case Catalogue.MODELS:
            report = answers.models_report(models_of_kind(kind), kind)
        case Catalogue.GPUS:
            report = answers.gpus_report(gpus())
        case Catalogue.FORMATS:
            report = answers.formats_report()
    _answer(report, output, json)


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
    for warning in report.warnings:
        _complain(f"warning: {warning}")
    for note in report.notes:
        _complain(f"note: {note}")
    sys.stdout.write(text)
    sys.stdout.flush()
    raise typer.Exit(report.exit_code)


def _complain(text: str) -> None:
    from kvplan.render.plain import visible

    for line in text.split("\n"):
        print(visible(line), file=sys.stderr)


def main() -> NoReturn:
    """Entry point: every error becomes one clear line and the contract's exit code."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    try:
        # Asked to stand aside, typer raises what it would print over three lines and a box.
        sys.exit(app(sys.argv[1:] or ["--help"], standalone_mode=False) or 0)
    except typer.TyperException as error:
        _complain(f"error: {error.format_message()}")
        _complain("  kvplan --help shows the commands, kvplan COMMAND --help their options")
        sys.exit(error.exit_code)
    except typer.Abort:
        sys.exit(130)
    except KvplanError as error:
        _complain(f"error: {error.message}")
        if error.hint:
            _complain(f"  {error.hint}")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader went away (`kvplan list | head`); nothing is left to say, or to flush.
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:  # noqa: BLE001 - a traceback would exit 1, which means "does not fit"
        _complain(f"error: a bug in kvplan: {type(error).__name__}: {error}")
        _complain("  please report it with the command line that led here")
        sys.exit(BUG)
