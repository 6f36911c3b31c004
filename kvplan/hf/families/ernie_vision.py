"""Baidu's model of images and text."""

from __future__ import annotations

from kvplan.hf.families.base import Wrapper

WRAPPERS: dict[str, Wrapper] = {"ernie4_5_vl_moe": Wrapper(ties=True)}
