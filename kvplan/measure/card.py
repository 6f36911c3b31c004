"""What a card has: its memory as torch and the driver see it, and what a process costs."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from typing import Any

import torch

from kvplan.measure.device import CudaDevice, Device, available_bytes

_WARM_UP = 1024  # rows and columns of the first product: 2 MiB each in fp16


@dataclass(frozen=True)
class Driver:
    """What the driver itself (NVML) says of a card; bytes.

    ``others_bytes`` is in use by other processes; None where the driver does not tell.
    """

    version: str
    total_bytes: int
    free_bytes: int
    others_bytes: int | None
    other_processes: int | None


@dataclass(frozen=True)
class Card:
    """A device and what one process finds on it; bytes, None where it cannot be known.

    ``total_bytes`` and ``free_bytes`` are cudaMemGetInfo's, free before any tensor.
    ``context_bytes`` is what the CUDA context took, ``kernels_bytes`` the first torch kernel,
    ``matmul_bytes`` the first matrix product with its handle (its workspace is given back).
    """

    name: str
    kind: str
    torch_version: str
    total_bytes: int
    free_bytes: int
    usable_bytes: int
    capability: str | None = None
    multiprocessors: int | None = None
    driver: Driver | None = None
    context_bytes: int | None = None
    kernels_bytes: int | None = None
    matmul_bytes: int | None = None
    expandable_segments: bool = False
    allocator_options: tuple[str, ...] = ()

    @property
    def process_bytes(self) -> int | None:
        """What one process costs before its first tensor: context, kernels, cuBLAS."""
        parts = (self.context_bytes, self.kernels_bytes, self.matmul_bytes)
        known = [part for part in parts if part is not None]
        return sum(known) if len(known) == len(parts) else None


def read_card(device: Device) -> Card:
    """The facts of this device. A CUDA context is made, the first kernels are loaded."""
    if not isinstance(device, CudaDevice):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        name = platform.processor() or platform.machine() or "CPU"
        return Card(
            name, "cpu", torch.__version__, memory, available_bytes(), device.usable_bytes()
        )
    index = device.torch_device
    properties: Any = torch.cuda.get_device_properties(index)
    before = driver_facts(str(getattr(properties, "uuid", "")))
    device.select()
    context = device.free_bytes()
    kernels, matmul = _warm_up(device)
    return Card(
        name=properties.name,
        kind="cuda",
        torch_version=torch.__version__,
        total_bytes=torch.cuda.mem_get_info(index)[1],
        free_bytes=device.free_bytes(),
        usable_bytes=device.usable_bytes(),
        capability=f"{properties.major}.{properties.minor}",
        multiprocessors=properties.multi_processor_count,
        driver=before,
        context_bytes=_taken(before.free_bytes, context) if before else None,
        kernels_bytes=_taken(context, kernels),
        matmul_bytes=_taken(kernels, matmul),
        expandable_segments=device.settings.expandable,
        allocator_options=device.settings.unknown,
    )


def _taken(before: int, after: int) -> int | None:
    """What became less; None where it became more, as another process gave something back."""
    return before - after if after <= before else None


def _warm_up(device: CudaDevice) -> tuple[int, int]:
    """Free bytes after the first kernel, and after the first matrix product, tensors given back."""
    where = device.torch_device
    ones = torch.ones(_WARM_UP, _WARM_UP, dtype=torch.float16, device=where)
    del ones
    device.release()
    kernels = device.free_bytes()
    ones = torch.ones(_WARM_UP, _WARM_UP, dtype=torch.float16, device=where)
    product = ones @ ones
    del ones, product
    device.release()
    return kernels, device.free_bytes()


def driver_facts(uuid: str) -> Driver | None:
    """What NVML says of the card before this process has a context on it.

    None where NVML is not installed, or the card is not NVIDIA's.
    """
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid.removeprefix('GPU-')}")
        # The second version keeps the driver's own reserve apart; the first counts it as used.
        total = pynvml.nvmlDeviceGetMemoryInfo(handle).total
        second = getattr(pynvml, "nvmlMemory_v2", None)
        free = pynvml.nvmlDeviceGetMemoryInfo(handle, version=second).free
        others = _other_processes(pynvml, handle)
        return Driver(pynvml.nvmlSystemGetDriverVersion(), total, free, *others)
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def _other_processes(nvml: Any, handle: Any) -> tuple[int | None, int | None]:
    """Bytes that other processes hold, and how many there are; None where it is not told."""
    try:
        processes = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except nvml.NVMLError:
        return None, None
    used = [process.usedGpuMemory for process in processes]
    return (None if None in used else sum(used)), len(used)
