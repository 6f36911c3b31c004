"""The command line: load, ask, render, exit."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from kvplan import __version__
from kvplan.errors import BUG, INTERRUPTED, KvplanError, SpecError, UsageError
from kvplan.measure.question import (
    LAYOUT_NAMES,
    MEASURED,
    PAGE_TOKENS,
    CacheQuestion,
    Kernel,
    Request,
    cache_layouts,
    check_options,
    default_context_tokens,
)
from kvplan.report import Report

if TYPE_CHECKING:
    from kvplan.planning import Settings

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


class CheckOutput(StrEnum):
    """What ``--format`` of ``kvplan check`` takes."""

    TABLE = "table"
    JSON = "json"
    MARKDOWN = "markdown"
    CSV = "csv"
    JUNIT = "junit"
    GITHUB = "github"


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
    gpu: Annotated[
        str, typer.Option("--gpu", help="GPU of list gpus, or a file of measure --save.")
    ] = ("h100-sxm-80gb"),
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


Gpu = Annotated[str, typer.Option("--gpu", help="GPU of list gpus, or a file of measure --save.")]
Utilization = Annotated[
    float,
    typer.Option(
        "--gpu-memory-utilization", min=0.01, max=1.0, help="Share of each GPU that may be used."
    ),
]
Overhead = Annotated[
    str | None,
    typer.Option(
        "--overhead", metavar="BYTES", help="Activations, graphs and process as measured: 3GiB."
    ),
]


@app.command()
def plan(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name, Hugging Face id or file.")],
    gpu: Gpu = "h100-sxm-80gb",
    gpus: Annotated[int | None, typer.Option("--gpus", min=1, help="GPUs there are.")] = None,
    ctx: Annotated[
        str | None,
        typer.Option("--ctx", "--max-model-len", metavar="TOKENS", help="Context of a sequence."),
    ] = None,
    sequences: Annotated[
        int | None, typer.Option("--sequences", "--max-num-seqs", min=1, help="Sequences at once.")
    ] = None,
    tensor: Annotated[
        int | None, typer.Option("--tensor-parallel-size", "-tp", min=1, help="Tensor parallel.")
    ] = None,
    pipeline: Annotated[
        int | None, typer.Option("--pipeline-parallel-size", "-pp", min=1, help="Stages of layers.")
    ] = None,
    replicas: Annotated[
        int | None, typer.Option("--data-parallel-size", "-dp", min=1, help="Replicas.")
    ] = None,
    attention: Annotated[
        int | None,
        typer.Option(
            "--data-parallel-attention", "-dpa", min=1, help="Attention groups that share experts."
        ),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(
            "--decode-context-parallel-size", "-dcp", min=1, help="GPUs that share the entries."
        ),
    ] = None,
    experts: Annotated[
        bool, typer.Option("--enable-expert-parallel", "-ep", help="Whole experts on each GPU.")
    ] = False,
    utilization: Utilization = 0.92,
    overhead: Overhead = None,
    kv_cache_memory: Annotated[
        str | None,
        typer.Option("--kv-cache-memory-bytes", metavar="BYTES", help="Room for caches, outright."),
    ] = None,
    price: Annotated[
        float | None, typer.Option("--price", min=0.0, help="Price of a GPU for an hour.")
    ] = None,
    engine: Annotated[str, typer.Option("--engine", help="Whose accounting; none: arithmetic.")] = (
        "none"
    ),
    kv_cache_dtype: KVDtype = "auto",
    draft: Draft = False,
    assume: Assume = None,
    output: Format = Output.TABLE,
    json: Json = False,
) -> None:
    """Plan a deployment: what fits, how long a context, how many sequences, on how many GPUs."""
    from kvplan import planning
    from kvplan.answers.plan import plan_report
    from kvplan.parallel import written_layout
    from kvplan.registry import load, load_gpu
    from kvplan.units import parse_tokens

    _known_engine(engine)
    if price is not None and not price < float("inf"):
        raise UsageError(f"--price {price} is no price")
    degrees = (tensor, pipeline, replicas, attention, context)
    where = written_layout(degrees, gpus, expert_parallel=experts)
    asked = planning.Question(
        parse_tokens(ctx) if ctx else None, sequences, gpus, where, kv_cache_dtype, draft
    )
    settings = _settings(utilization, overhead, kv_cache_memory)
    found = planning.solved(load(model, _assumed_kind(assume)), load_gpu(gpu), asked, settings)
    _answer(plan_report(found, price), output, json)


@app.command()
def layouts(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name, Hugging Face id or file.")],
    gpus: Annotated[int, typer.Option("--gpus", min=1, max=4096, help="GPUs there are.")] = 8,
    gpu: Gpu = "h100-sxm-80gb",
    ctx: Annotated[
        str, typer.Option("--ctx", "--max-model-len", metavar="TOKENS", help="Context.")
    ] = "128k",
    sequences: Annotated[
        int, typer.Option("--sequences", "--max-num-seqs", min=1, help="Sequences at once.")
    ] = 1,
    utilization: Utilization = 0.92,
    overhead: Overhead = None,
    kv_cache_dtype: KVDtype = "auto",
    assume: Assume = None,
    output: Format = Output.TABLE,
    json: Json = False,
) -> None:
    """Put every layout of so many GPUs side by side: tensor, data, pipeline, context parallel."""
    from kvplan import planning
    from kvplan.answers.plan import layouts_report
    from kvplan.fit import Workload
    from kvplan.registry import load, load_gpu
    from kvplan.units import parse_tokens

    spec = load(model, _assumed_kind(assume))
    work = Workload(parse_tokens(ctx), sequences, kv_cache_dtype)
    settings = _settings(utilization, overhead, None)
    found = planning.compared_layouts(spec, work, load_gpu(gpu), gpus, settings)
    if not found:
        raise UsageError(f"{spec.name} cannot be laid out over {gpus} GPUs")
    _answer(layouts_report(found), output, json)


@app.command()
def measure(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL...]",
            help=f"Names or files; {', '.join(MEASURED)} where none is given.",
        ),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="cuda, cuda:1 or cpu.")] = "cuda",
    ctx: Annotated[
        str | None,
        typer.Option(
            "--ctx", "--max-model-len", metavar="TOKENS", help="Context; 128k, on a CPU 1k."
        ),
    ] = None,
    sequences: Annotated[
        int, typer.Option("--sequences", "--max-num-seqs", min=1, help="Sequences of that length.")
    ] = 1,
    tensor_parallel: Annotated[
        int,
        typer.Option("--tensor-parallel-size", "-tp", min=1, help="One GPU's share of so many."),
    ] = 1,
    kv_cache_dtype: KVDtype = "auto",
    layout: Annotated[
        list[str] | None,
        typer.Option(
            "--layout",
            metavar=f"<{'|'.join(LAYOUT_NAMES)}>",
            help="How the bytes are cut into tensors; several are measured.",
        ),
    ] = None,
    block_size: Annotated[
        int | None,
        typer.Option("--block-size", min=1, help="Tokens of a page in the vllm layout; 16."),
    ] = None,
    find_max: Annotated[
        bool, typer.Option("--find-max", help="Find the longest context and the most sequences.")
    ] = False,
    reserve_weights: Annotated[
        bool, typer.Option("--reserve-weights", help="With --find-max: weights are there first.")
    ] = False,
    decode: Annotated[
        bool, typer.Option("--decode", help="Time one step of attention over the cache.")
    ] = False,
    kernel: Annotated[
        Kernel, typer.Option("--kernel", help="Attention kernel; auto: the fastest.")
    ] = Kernel.AUTO,
    max_bytes: Annotated[
        str | None, typer.Option("--max-bytes", metavar="BYTES", help="Take no more: 20GiB.")
    ] = None,
    save: Annotated[
        str | None,
        typer.Option("--save", metavar="FILE", help="Write this card's entry for --gpu FILE."),
    ] = None,
    draft: Draft = False,
    assume: Assume = None,
    output: Format = Output.TABLE,
    json: Json = False,
) -> None:
    """Allocate the real caches on a device, and hold every counter against the plan."""
    from kvplan.files import write_whole
    from kvplan.measure.device import require_torch
    from kvplan.measure.entry import gpu_entry, gpu_yaml
    from kvplan.registry import load
    from kvplan.render.progress import Progress
    from kvplan.units import parse_bytes, parse_tokens
    from kvplan.views.measure import measure_report

    layouts = cache_layouts(layout or ())
    check_options(
        device=device,
        layouts=layouts,
        block_size=block_size,
        find_max=find_max,
        reserve_weights=reserve_weights,
        decode=decode,
        kernel=kernel,
        save=save,
    )
    tokens = default_context_tokens(device) if ctx is None else parse_tokens(ctx)
    bound = None if max_bytes is None else parse_bytes(max_bytes)
    questions = tuple(
        CacheQuestion(
            load(model, _assumed_kind(assume)),
            tokens,
            sequences,
            kv_cache_dtype,
            tensor_parallel,
            block_size or PAGE_TOKENS,
            draft,
        )
        for model in models or MEASURED
    )
    request = Request(
        device=device,
        questions=questions,
        layouts=layouts,
        max_bytes=bound,
        find_max=find_max,
        reserve_weights=reserve_weights,
        decode=decode,
        kernel=kernel,
        ceilings=save is not None,
    )
    require_torch()
    from kvplan.measure.device import session

    with Progress() as progress:
        measurement = session.measure(request, progress.tell)
    if save and measurement.ceilings:
        entry = gpu_entry(measurement.card, measurement.ceilings, _today())
        write_whole(Path(save), gpu_yaml(entry))
    _answer(measure_report(request, measurement, save), output, json)


def _today() -> str:
    from datetime import UTC, datetime

    return datetime.now(UTC).date().isoformat()


def _known_engine(engine: str) -> None:
    if engine != "none":
        raise UsageError(
            f"--engine {engine}: no engine's own accounting is built in yet",
            "leave it out: plan is plain arithmetic",
        )


def _settings(utilization: float, overhead: str | None, room: str | None) -> Settings:
    from kvplan.planning import Settings
    from kvplan.units import parse_bytes

    return Settings(
        utilization,
        parse_bytes(overhead) if overhead else None,
        parse_bytes(room) if room else None,
    )


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


@app.command()
def check(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Deployments and what they have to do.")
    ],
    baseline: Annotated[
        str | None,
        typer.Option(
            "--baseline", metavar="LOCK", help="Any figure that is not in this lock file fails."
        ),
    ] = None,
    update_baseline: Annotated[
        bool, typer.Option("--update-baseline", help="Write the lock file instead.")
    ] = False,
    output: Annotated[
        CheckOutput, typer.Option("--format", help="How to print the findings.")
    ] = CheckOutput.TABLE,
    json: Json = False,
) -> None:
    """Hold deployments against what is expected of them, and against a baseline."""
    from kvplan import check as checking
    from kvplan.answers.check import check_report
    from kvplan.lock import read_lock, write_lock

    if update_baseline and baseline is None:
        raise UsageError("--update-baseline of which file?", "--baseline plan.lock.json")
    lock = Path(baseline) if baseline else None
    paths = [Path(file) for file in files]
    locked = read_lock(lock) if lock and not update_baseline else None
    checked = checking.check(paths, locked, lock.parent if lock else Path())
    if lock and update_baseline and checked.understood:
        write_lock(lock, checked.lock())
    elif update_baseline:
        _complain(f"warning: {baseline}: not written, as not every deployment is understood")
    report = check_report(checked, paths, lock)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        _tell_github(report, annotate=output is not CheckOutput.GITHUB)
    _answer(report, output, json)


def _tell_github(report: Report, *, annotate: bool) -> None:
    """Annotations, on stderr so that stdout is the answer alone, and the job's summary."""
    from kvplan.files import append
    from kvplan.render import github

    if annotate:
        sys.stderr.write(github.render(report))
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        append(Path(summary), github.summary(report))


@app.command()
def diff(
    one: Annotated[str, typer.Argument(metavar="A", help="A model, or a *.lock.json.")],
    other: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    ctx: Annotated[
        str, typer.Option("--ctx", "--max-model-len", metavar="TOKENS", help="Context.")
    ] = "128k",
    kv_cache_dtype: KVDtype = "auto",
    output: Format = Output.TABLE,
    json: Json = False,
) -> None:
    """Show in which figures two models, or two lock files, differ."""
    from kvplan.answers.check import diff_report
    from kvplan.difference import difference
    from kvplan.units import parse_tokens

    found = difference(one, other, parse_tokens(ctx), kv_cache_dtype)
    _answer(diff_report(found, one, other), output, json)


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


def _answer(report: Report, output: Output | CheckOutput, json: bool) -> NoReturn:
    from kvplan.render import rendered

    text = rendered(report, "json" if json else CheckOutput(output.value).value)
    _warn(report.warnings)
    for note in report.notes:
        _complain(f"note: {note}")
    _write(text)
    raise typer.Exit(report.exit_code)


def _write(text: str) -> None:
    if sys.stdout is None:
        raise OSError(0, "stdout is closed")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader went away (`kvplan list | head`); nothing is left to say, or to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
