"""MiniMax's model of images and text."""

from __future__ import annotations

from kvplan.hf.families.base import Wrapper

WRAPPERS: dict[str, Wrapper] = {
    "minimax_m3_vl": Wrapper(ties=False, classes=("minimaxm3vl", "minimaxm3sparse"))
}
