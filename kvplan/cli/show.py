"""``kvplan show``."""

from __future__ import annotations

from kvplan.cli.options import (
    Assume,
    Display,
    Draft,
    IndexDtype,
    KVDtype,
    MambaDType,
    Model,
    StateDtype,
)
from kvplan.cli.output import answer


def show(
    model: Model,
    kv_cache_dtype: KVDtype = "auto",
    mamba_cache_dtype: MambaDType = "auto",
    mamba_ssm_cache_dtype: StateDtype = "auto",
    index_cache_dtype: IndexDtype = "auto",
    draft: Draft = False,
    display: Display = Display(),
    assume: Assume = None,
) -> None:
    """Show what each group of layers keeps, with its formula.

    Examples:
        # Where do a model's bytes per token come from?
        kvplan show deepseek-v3
        # What does the cache keep in FP8, for a script?
        kvplan show qwen3-next-80b-a3b --kv-cache-dtype fp8 --json
    """
    from kvplan.dtypes import BesideDtypes
    from kvplan.registry.names import load
    from kvplan.views.show import show_report

    spec = load(model, assume)
    beside = BesideDtypes(
        mamba_cache_dtype=mamba_cache_dtype,
        mamba_ssm_cache_dtype=mamba_ssm_cache_dtype,
        index_cache_dtype=index_cache_dtype,
    )
    answer(show_report(spec, kv_cache_dtype, beside, draft=draft), display.format, display)
