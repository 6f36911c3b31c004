"""Baidu's ERNIE 4.5."""

from __future__ import annotations

from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import Style, decoder
from kvplan.hf.geometry import OWN_HEAD_DIM

_BIAS = ("use_bias", False)

FAMILIES: dict[str, Family] = {
    "ernie4_5": Family(
        read=decoder(Style(dialect=OWN_HEAD_DIM, bias=_BIAS, mlp_bias=_BIAS, tie=True))
    ),
}
