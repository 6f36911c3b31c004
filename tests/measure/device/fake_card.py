"""A card without memory, on which caches are allocated without taking any."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch

from kvplan.measure.device import caches
from kvplan.measure.device.device import AllocatorOptions, Counters
from kvplan.measure.layouts import CacheTensor
from tests.measure.samples import MIB

SEGMENT = 2 * MIB


@dataclass
class FakeCard:
    """Segments of 2 MiB are counted, and refused beyond what there is.

    ``hidden_bytes`` is what it shows as free and does not give (or, negative, gives beyond).
    """

    capacity_bytes: int
    hidden_bytes: int = 0
    allocator: AllocatorOptions = field(
        default_factory=lambda: AllocatorOptions("native", expandable=False, unknown=())
    )
    used_bytes: int = 0
    allocated_bytes: int = 0
    kind: str = "cuda"
    torch_device: torch.device = field(default_factory=lambda: torch.device("meta"))
    bounds: list[int | None] = field(default_factory=list)

    def free_bytes(self) -> int:
        return self.capacity_bytes - self.used_bytes

    def usable_bytes(self) -> int:
        return self.free_bytes()

    def counters(self) -> Counters:
        used = self.used_bytes
        return Counters(self.allocated_bytes, used, used, used)

    def synchronize(self) -> None:
        pass

    def release(self) -> None:
        self.used_bytes = self.allocated_bytes = 0

    def bound(self, max_bytes: int | None) -> None:
        self.bounds.append(max_bytes)

    def take(self, size: int) -> None:
        """A segment of its own; what is left of it is split off where it is over 1 MiB."""
        segment = -(-size // SEGMENT) * SEGMENT
        rounded = -(-size // 512) * 512
        self.used_bytes += segment
        self.allocated_bytes += rounded if segment - rounded > MIB else segment
        if self.used_bytes > self.capacity_bytes - self.hidden_bytes:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\nand so on")


def fake_card(monkeypatch: pytest.MonkeyPatch, capacity: int, hidden: int = 0) -> FakeCard:
    """A card of that capacity; tensors of 10 MiB and more go on it, where they take no memory."""

    def empty(device: FakeCard, tensor: CacheTensor) -> torch.Tensor:
        assert tensor.size_bytes >= 10 * MIB
        device.take(tensor.size_bytes)
        return torch.empty(tensor.shape, dtype=torch.uint8, device="meta")

    monkeypatch.setattr(caches, "empty", empty)
    monkeypatch.setattr(caches, "write", lambda _: None)
    monkeypatch.setattr(caches, "holds", lambda *_: True)
    return FakeCard(capacity, hidden)
