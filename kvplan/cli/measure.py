"""``kvplan measure``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kvplan.cli.options import Assume, Display, Load, TensorParallel
from kvplan.cli.output import answer
from kvplan.cli.values import GPU, MEASUREMENT, MEMORY, argument, choice, count, option, size
from kvplan.errors import UsageError
from kvplan.measure.question import (
    LAYOUT_NAMES,
    MEASURED,
    PAGE_TOKENS,
    CacheLayout,
    CacheQuestion,
    Kernel,
    Request,
    cache_layouts,
    check_options,
    default_context_tokens,
)
from kvplan.units import AUTO_CONTEXT

if TYPE_CHECKING:
    from kvplan.measure.results import Measurement


@dataclass(frozen=True, kw_only=True)
class Caches:
    """How the caches are cut, and of how many GPUs they are one's share."""

    tensor_parallel_size: TensorParallel = 1
    layout: Annotated[
        list[str] | None,
        option(
            "--layout",
            metavar="LAYOUT",
            panel=MEMORY,
            help_="How the bytes are cut into tensors; several are measured: "
            f"{', '.join(LAYOUT_NAMES)}.",
        ),
    ] = None
    block_size: Annotated[
        int | None,
        count(
            "--block-size",
            panel=MEMORY,
            help_=f"Tokens of a page in the vllm layout; {PAGE_TOKENS}.",
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Work:
    """What else is measured of them, and within which bound."""

    find_max: Annotated[
        bool,
        typer.Option(
            "--find-max",
            rich_help_panel=MEASUREMENT,
            help="Find the longest context and the most sequences.",
        ),
    ] = False
    reserve_weights: Annotated[
        bool,
        typer.Option(
            "--reserve-weights",
            rich_help_panel=MEASUREMENT,
            help="With --find-max: weights are there first.",
        ),
    ] = False
    decode: Annotated[
        bool,
        typer.Option(
            "--decode",
            rich_help_panel=MEASUREMENT,
            help="Time one step of attention over the cache.",
        ),
    ] = False
    kernel: Annotated[
        Kernel,
        choice(
            "--kernel",
            metavar="KERNEL",
            among=Kernel,
            panel=MEASUREMENT,
            help_="Attention kernel (auto is the fastest)",
        ),
    ] = Kernel.AUTO
    max_bytes: Annotated[
        int | None,
        size("--max-bytes", panel=MEASUREMENT, help_="Take no more: 20GiB."),
    ] = None
    save: Annotated[
        str | None,
        option(
            "--save",
            metavar="FILE",
            panel=MEASUREMENT,
            help_="Write this card's entry for --gpu FILE.",
        ),
    ] = None


def measure(
    models: Annotated[
        list[str] | None,
        argument("[MODEL...]", f"Names or files; {', '.join(MEASURED)} where none is given."),
    ] = None,
    device: Annotated[
        str, option("--device", metavar="DEVICE", panel=GPU, help_="cuda, cuda:1 or cpu.")
    ] = "cuda",
    load: Load = Load(sequences=1),
    caches: Caches = Caches(),
    work: Work = Work(),
    display: Display = Display(),
    assume: Assume = None,
) -> None:
    """Hold real caches on a device against the plan, byte by byte.

    The context is 128k where none is given, and 1k on a CPU.

    Examples:
        # Are the caches of four well-known models what kvplan says?
        kvplan measure
        # The same of one model on a CPU, as an engine pages it.
        kvplan measure gpt2 --device cpu --layout vllm --ctx 1k
    """
    from kvplan.views.measure import measure_report

    request = _request(models or list(MEASURED), device, load, caches, work, assume)
    measurement = _measure(request)
    if work.save is not None and measurement.ceilings:
        _write_entry(measurement, Path(work.save))
    answer(measure_report(request, measurement, work.save), display.format, display)


def _request(
    models: list[str], device: str, load: Load, caches: Caches, work: Work, assume: str | None
) -> Request:
    layouts = _layouts(device, caches, work)
    if load.context_tokens == AUTO_CONTEXT:
        raise UsageError("--ctx auto is no length to measure", "--find-max finds the longest")
    tokens = load.context_tokens or default_context_tokens(device)
    questions = tuple(_questions(models, tokens, load, caches, assume))
    return Request(
        device=device,
        questions=questions,
        layouts=layouts,
        max_bytes=work.max_bytes,
        find_max=work.find_max,
        reserve_weights=work.reserve_weights,
        decode=work.decode,
        kernel=work.kernel,
        ceilings=work.save is not None,
    )


def _questions(
    models: list[str], tokens: int, load: Load, caches: Caches, assume: str | None
) -> Iterator[CacheQuestion]:
    """The same caches of every model."""
    from kvplan.dtypes import BesideDtypes
    from kvplan.registry import names

    beside = BesideDtypes(
        mamba_cache_dtype=load.mamba_cache_dtype,
        mamba_ssm_cache_dtype=load.mamba_ssm_cache_dtype,
        index_cache_dtype=load.index_cache_dtype,
    )
    for model in models:
        yield CacheQuestion(
            names.load(model, assume),
            tokens,
            load.sequences or 1,
            load.kv_cache_dtype,
            caches.tensor_parallel_size or 1,
            caches.block_size or PAGE_TOKENS,
            load.draft,
            beside,
            None if load.draft_model is None else names.load(load.draft_model),
            load.draft_kv_cache_dtype,
        )


def _layouts(device: str, caches: Caches, work: Work) -> tuple[CacheLayout, ...]:
    """The cache layouts asked for, once all options suit one another."""
    layouts = cache_layouts(caches.layout or ())
    check_options(
        device=device,
        layouts=layouts,
        block_size=caches.block_size,
        find_max=work.find_max,
        reserve_weights=work.reserve_weights,
        decode=work.decode,
        kernel=work.kernel,
        save=work.save,
    )
    return layouts


def _measure(request: Request) -> Measurement:
    from kvplan.measure.device import require_torch

    require_torch()
    from kvplan.measure.device import session
    from kvplan.render.progress import Progress

    with Progress() as progress:
        return session.measure(request, progress.tell)


def _write_entry(measurement: Measurement, path: Path) -> None:
    from datetime import UTC, datetime

    from kvplan.files import write_whole
    from kvplan.measure.entry import gpu_entry, gpu_yaml

    if measurement.ceilings:
        today = datetime.now(UTC).date().isoformat()
        write_whole(path, gpu_yaml(gpu_entry(measurement.card, measurement.ceilings, today)))
