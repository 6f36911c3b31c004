"""What a GPU is: memory as the driver shows it, rates, and how far each figure is to be trusted."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from kvplan.limits import Count, Input, Share, Size, Text, WrittenBytes

_ASSUMED_LINK_DOMAIN = 8
LEAST_MEMORY_BYTES = 1 << 20
_COMPUTE_CAPABILITY = re.compile(r"[1-9][0-9]?\.[0-9]")
_GFX_TARGET = re.compile(r"gfx[1-9][0-9]?[0-9a-f]{2}")


@dataclass(frozen=True, kw_only=True)
class Gpu(Input):
    """One accelerator; memory is what the driver lets a process see.

    A user's own needs no more than ``name`` and ``memory_bytes``: its memory is taken as given, and
    what rests on figures that it does not state is not known.
    """

    name: Text
    aliases: tuple[Text, ...] = ()
    description: Text | None = None
    memory_bytes: WrittenBytes
    memory_basis: Literal["measured", "torch-log", "driver-log", "given"] = "given"
    driver_memory_mib: Count | None = None
    bandwidth_bytes_per_s: WrittenBytes | None = None
    bf16_flops: Count | None = None
    fp16_flops: Count | None = None
    fp8_flops: Count | None = None
    link_bytes_per_s: WrittenBytes | None = None
    gpus_per_node: Size | None = None
    link_domain_gpus: Size | None = None
    """GPUs that reach one another at ``link_bytes_per_s``: more than a node in an NVL72 rack."""
    compute_capability: Text | None = None
    """NVIDIA's, as text ("9.0"): 10.0 comes after 9.0. None for other makers."""
    gfx_target: Text | None = None
    """AMD's, as LLVM and ROCm name it ("gfx942"). None for other makers."""
    sources: Text | None = None
    rates_basis: Literal["datasheet", "measured"] = "datasheet"
    """Whether bandwidth and FLOP rates are the maker's or were reached on a card."""
    most_utilization: Share | None = None
    """The largest share that an engine was seen to start with, where the host shares the memory."""
    process_bytes: WrittenBytes | None = None
    """What one process takes before its first tensor, where it was measured on this very card."""
    name_note: Text | None = field(default=None, compare=False)
    """How the name that was asked for was read, where it is none of its own."""

    def __post_init__(self) -> None:
        if self.memory_bytes < LEAST_MEMORY_BYTES:
            raise ValueError(
                f"memory_bytes: {self.memory_bytes:,} bytes are no GPU's memory; write 24GiB"
            )
        capability = self.compute_capability
        if capability is not None and not _COMPUTE_CAPABILITY.fullmatch(capability):
            raise ValueError(f'compute_capability has to be like "9.0", not "{capability}"')
        if self.gfx_target is not None and not _GFX_TARGET.fullmatch(self.gfx_target):
            raise ValueError(f'gfx_target has to be like "gfx942", not "{self.gfx_target}"')

    @property
    def link_domain(self) -> int:
        """GPUs that reach one another at the link's rate: the rack's, else the node's, else 8."""
        return self.link_domain_gpus or self.gpus_per_node or _ASSUMED_LINK_DOMAIN

    @property
    def link_domain_is_assumed(self) -> bool:
        """Whether neither link domain nor node is known, and ``link_domain`` is the usual 8."""
        return self.link_domain_gpus is None and self.gpus_per_node is None


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
