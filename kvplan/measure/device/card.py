"""What a card has: its memory as torch and the driver see it, and what a process costs."""

from __future__ import annotations

import os
import platform
from typing import Any

import torch

from kvplan.measure.device.device import CudaDevice, Device, available_bytes
from kvplan.measure.results import Card, Driver

_WARM_UP = 1024  # rows and columns of the first product: 2 MiB each in fp16


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
        # ROCm fills the same two numbers with its own: 9.4 is gfx942
        capability=None if torch.version.hip else f"{properties.major}.{properties.minor}",
        multiprocessors=properties.multi_processor_count,
        driver=before,
        context_bytes=_decrease(before.free_bytes, context) if before else None,
        kernels_bytes=_decrease(context, kernels),
        matmul_bytes=_decrease(kernels, matmul),
        expandable_segments=device.allocator.expandable,
        allocator_options=device.allocator.unknown,
    )


def _decrease(before: int, after: int) -> int | None:
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
