"""The library: every question of the command line, asked from Python.

Models are names, files or specs, contexts are ints or texts such as "128k"; the other options
have vLLM's names (``question.Options``).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Unpack

from kvplan import calc
from kvplan.checks import findings
from kvplan.checks.baseline import read_lock
from kvplan.checks.findings import Findings
from kvplan.dtypes import BesideDtypes
from kvplan.planner import compare as comparing
from kvplan.planner import solve
from kvplan.planner.compare import Comparison
from kvplan.planner.plan import Plan
from kvplan.question import (
    DEFAULT_CONTEXT,
    BesideOptions,
    Model,
    Options,
    Placement,
    as_spec,
    as_tokens,
    ask,
)
from kvplan.spec import ModelSpec


def footprint(
    model: Model,
    context_tokens: int | str,
    sequences: int = 1,
    kv_cache_dtype: str = "auto",
    tensor_parallel: int = 1,
    context_parallel: int = 1,
    *,
    draft: bool = False,
    **beside: Unpack[BesideOptions],
) -> calc.Footprint:
    """What the model's caches take on each of ``tensor_parallel`` GPUs, in bytes.

    ``context_tokens`` is the length of every one of ``sequences`` sequences; ``beside`` are the
    dtypes of states, convolutions and index keys. Raises UsageError where heads cannot be divided,
    RefusedError where the format has no layout for this model.
    """
    return calc.footprint(
        as_spec(model),
        as_tokens("context_tokens", context_tokens),
        sequences,
        kv_cache_dtype,
        tensor_parallel,
        context_parallel,
        draft=draft,
        beside=BesideDtypes(**beside),
    )


def compare(
    models: Sequence[Model],
    context_tokens: int | str = DEFAULT_CONTEXT,
    sequences: int = 1,
    **placement: Unpack[Placement],
) -> Comparison:
    """Models side by side: what each keeps, and its plan. Raises KvplanError."""
    question = ask(models, context_tokens=context_tokens, sequences=sequences, **placement)
    return comparing.compare(question)


def plan(model: Model, **options: Unpack[Options]) -> Plan:
    """The plan that answers the question; what the options leave out is found.

    Where nothing fits, ``fits`` is False and the plan is of the layout that lacks least. Raises
    KvplanError for what cannot be asked.
    """
    question = ask([model], **options)
    return solve.solve(question.models[0], question)


def layouts(model: Model, **options: Unpack[Options]) -> tuple[Plan, ...]:
    """A plan for every layout of so many GPUs, the best first. Raises KvplanError."""
    question = ask([model], **options)
    return solve.rank_layouts(question.models[0], question)


def check(*paths: str | Path, baseline: str | Path | None = None) -> Findings:
    """Every expectation of these files of deployments; with a baseline, every drift from it.

    Raises SpecError for a baseline that cannot be read; a file of deployments that cannot be is a
    finding.
    """
    if baseline is None:
        return findings.check(paths)
    return findings.check(paths, read_lock(Path(baseline)), Path(baseline).parent)


def variants(model: Model, kv_cache_dtype: str = "auto") -> list[ModelSpec]:
    """One model with multi-head attention, eight KV heads, one KV head, and as it is."""
    return comparing.variants(as_spec(model), kv_cache_dtype)
