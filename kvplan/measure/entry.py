"""A measured card as an entry of the catalogue."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace

from kvplan.gpu import Gpu
from kvplan.measure.rates import Ceilings
from kvplan.measure.results import Card
from kvplan.units import MIB


def card_memory(card: Card) -> Gpu:
    """The card's memory as the catalogue describes it; its rates are unknown."""
    driver = card.driver
    return Gpu(
        name=re.sub(r"[^a-z0-9]+", "-", card.name.lower()).strip("-") + "-measured",
        description=card.name,
        memory_bytes=card.total_bytes,
        memory_basis="measured",
        driver_memory_mib=driver.total_bytes // MIB if driver else None,
        bandwidth_bytes_per_s=None,
        bf16_flops=None,
        fp8_flops=None,
        link_bytes_per_s=None,
        gpus_per_node=None,
        compute_capability=card.capability,
        sources="kvplan measure on this card",
        process_bytes=card.process_bytes,
    )


def gpu_entry(card: Card, ceilings: Ceilings, date: str) -> Gpu:
    """The card as the catalogue describes one; what was not measured is unknown, not copied.

    ``date`` is the day of the measurement.
    """
    driver = card.driver
    software = [f"torch {card.torch_version}", *([f"driver {driver.version}"] if driver else [])]
    memory = card_memory(card)
    return replace(
        memory,
        bandwidth_bytes_per_s=round(ceilings.read_bytes_per_second),
        bf16_flops=round(ceilings.matmul_flops_per_second),
        sources=f"{memory.sources}, {date} ({', '.join(software)}): memory as torch sees it, "
        "bandwidth of a pure read, bf16 products kept up for a second",
        rates_basis="measured",
    )


def gpu_yaml(gpu: Gpu) -> str:
    """The entry in the form of configs/gpus.yaml, which ``--gpu FILE`` reads."""
    lines = [
        f"{key}: {json.dumps(list(value) if isinstance(value, tuple) else value)}"
        for key, value in asdict(gpu).items()
    ]
    return "gpus:\n  - " + "\n    ".join(lines) + "\n"
