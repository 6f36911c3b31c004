"""RecursiveSI's Flint: Qwen-3's experts, attention with sinks and a window on most layers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from kvplan.hf.config import Config, Figure
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import decoder
from kvplan.hf.families.experts import QWEN_SHARED, every_step
from kvplan.hf.families.qwen import QWEN3
from kvplan.hf.families.windows import WindowPlan, mixed
from kvplan.hf.layers import FULL, SLIDING

_STYLE = replace(QWEN3, qk_norm_key=True, sinks="sinks")
_EXPERTS = replace(QWEN_SHARED, shared_gate=False)


def _windows(config: Config, layers: Figure) -> WindowPlan:
    """Full on the first two layers, every fourth after them and the last (FlintConfig)."""

    def rule(index: int) -> str:
        return FULL if index in (0, layers - 1) or index % 4 == 1 else SLIDING

    return mixed(rule=rule)(config, layers)


def _sparse(config: Config, layers: int) -> Iterable[int]:
    """No experts in the first two layers where ``mlp_only_layers`` is not there (FlintConfig)."""
    where = every_step(config, layers)
    return where if config.has("mlp_only_layers") else set(where) - {0, 1}


FAMILIES: dict[str, Family] = {"flint": Family(read=decoder(_STYLE, _windows, _EXPERTS, _sparse))}
