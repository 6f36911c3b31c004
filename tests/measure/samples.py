"""A card and questions that several tests measure."""

from __future__ import annotations

from typing import Any

import kvplan
from kvplan.measure.question import CacheQuestion
from kvplan.measure.results import Card, Driver

KIB, MIB, GIB = 2**10, 2**20, 2**30

H100 = Card(
    name="NVIDIA H100 80GB HBM3",
    kind="cuda",
    torch_version="2.11.0+cu130",
    total_bytes=85_017_493_504,
    free_bytes=84_301_512_704,
    usable_bytes=84_299_415_552,
    capability="9.0",
    driver=Driver("580.159.04", 85_520_809_984, 85_017_493_504, 0, 0),
    context_bytes=549_000_000,
    kernels_bytes=96_000_000,
    matmul_bytes=69_000_000,
)


def question(model: str, tokens: int = 64, sequences: int = 1, **more: Any) -> CacheQuestion:
    """The caches of a model of the catalogue."""
    return CacheQuestion(kvplan.load(model), tokens, sequences, **more)
