"""What a GPU is: memory as the driver shows it, rates, and how far each figure is to be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from kvplan.limits import Count, Text
from kvplan.spec import Input


@dataclass(frozen=True, kw_only=True)
class Gpu(Input):
    """One accelerator of the catalogue; memory is what the driver lets a process see."""

    name: Text
    aliases: tuple[Text, ...] = ()
    description: Text
    memory_bytes: Count
    memory_basis: Literal["measured", "torch-log", "driver-log"]
    driver_memory_mib: Count | None
    bandwidth_bytes_per_s: Count | None
    bf16_flops: Count | None
    fp16_flops: Count | None = None
    fp8_flops: Count | None
    link_bytes_per_s: Count | None
    gpus_per_node: Count | None
    sources: Text
    rates_basis: Literal["datasheet", "measured"] = "datasheet"
    """Whether bandwidth and FLOP rates are the maker's or were reached on a card."""
    process_bytes: Count | None = None
    """What one process takes before its first tensor, where it was measured on this very card."""


@dataclass(frozen=True, kw_only=True)
class GpuFile(Input):
    """A file of the catalogue's form: one GPU of the user's own."""

    gpus: tuple[Gpu, ...]

    def __post_init__(self) -> None:
        if len(self.gpus) != 1:
            raise ValueError(f"gpus: has to list one GPU, not {len(self.gpus)}")

    @classmethod
    def parts(cls) -> dict[str, type[Any]]:
        return {"gpus": Gpu}
