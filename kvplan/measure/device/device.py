"""A device to measure on: its memory as torch and the driver count it."""

from __future__ import annotations

import os
import re
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from kvplan.errors import MeasurementError, UsageError
from kvplan.units import MIB

CUDA_LEFT_BYTES = 2 * MIB  # what no allocation gets: 2.19 MiB on an H100, in 2 MiB segments
EXPANDABLE_LEFT_BYTES = 20 * MIB  # the granule of expandable segments
CPU_SHARE = 2  # a CPU measurement takes at most one part in so many of what is available


@dataclass(frozen=True)
class Counters:
    """Bytes in use: torch's tensors, torch's segments, and all that was taken from the device.

    ``peak_bytes`` are the most that the segments took since all was last given back. None where
    the device has no such counter.
    """

    allocated_bytes: int | None
    reserved_bytes: int | None
    taken_bytes: int | None
    peak_bytes: int | None


@dataclass(frozen=True)
class AllocatorOptions:
    """How torch's allocator is set; ``unknown`` are options that the prediction does not model."""

    backend: str
    expandable: bool
    unknown: tuple[str, ...]

    @property
    def predictable(self) -> bool:
        """Whether the prediction knows all of its rules."""
        return self.backend == "native" and not self.unknown


def allocator_options(backend: str) -> AllocatorOptions:
    """What torch reads from the environment; of an option that is set twice the last counts."""
    named = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_HIP_ALLOC_CONF")
    text = next((os.environ[name] for name in named if os.environ.get(name)), "")
    pairs = (option.partition(":") for option in re.sub(r"\s", "", text).split(",") if option)
    options = {name: value for name, _, value in pairs}
    options.pop("backend", None)
    expandable = options.pop("expandable_segments", "").lower() == "true"
    unknown = tuple(f"{name}:{value}" for name, value in options.items())
    return AllocatorOptions(backend, expandable, unknown)


@dataclass(frozen=True)
class CudaDevice:
    """A CUDA (or ROCm) device in torch's eyes."""

    kind: ClassVar[str] = "cuda"

    torch_device: torch.device
    allocator: AllocatorOptions

    def select(self) -> None:
        """Make it torch's current device, which makes the context."""
        torch.cuda.set_device(self.torch_device)

    def counters(self) -> Counters:
        """What is in use now, whoever uses it."""
        free, total = torch.cuda.mem_get_info(self.torch_device)
        return Counters(
            torch.cuda.memory_allocated(self.torch_device),
            torch.cuda.memory_reserved(self.torch_device),
            total - free,
            torch.cuda.max_memory_reserved(self.torch_device),
        )

    def free_bytes(self) -> int:
        """What the driver shows as free."""
        return int(torch.cuda.mem_get_info(self.torch_device)[0])

    def usable_bytes(self) -> int:
        """What the caches of this process can take from the device now."""
        left = EXPANDABLE_LEFT_BYTES if self.allocator.expandable else CUDA_LEFT_BYTES
        return max(0, self.free_bytes() - left)

    def synchronize(self) -> None:
        """Wait until all that was asked of the device is done."""
        torch.cuda.synchronize(self.torch_device)

    def release(self) -> None:
        """Give back all that torch keeps without using it, cuBLAS workspaces included."""
        self.synchronize()
        clear = getattr(torch._C, "_cuda_clearCublasWorkspaces", None)  # noqa: SLF001
        if clear is not None:
            clear()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.torch_device)

    def bound(self, max_bytes: int | None) -> None:
        """Let torch take no more than this from the device; None for all there is."""
        total = torch.cuda.mem_get_info(self.torch_device)[1]
        # Half a byte more, as torch rounds down.
        share = 1.0 if max_bytes is None else min(1.0, (max_bytes + 0.5) / total)
        torch.cuda.set_per_process_memory_fraction(share, self.torch_device)


@dataclass(frozen=True)
class CpuDevice:
    """The host's memory: what CI runs on. Nothing is predicted beyond the tensors themselves."""

    kind: ClassVar[str] = "cpu"

    torch_device: torch.device
    allocator: AllocatorOptions

    def select(self) -> None:
        """Nothing: it is the only one."""

    def counters(self) -> Counters:
        """None: what a process keeps of what it freed says nothing of its tensors."""
        return Counters(None, None, None, None)

    def free_bytes(self) -> int:
        """What the system has available."""
        return available_bytes()

    def usable_bytes(self) -> int:
        """Half of what is free: more could bring the machine down."""
        return self.free_bytes() // CPU_SHARE

    def synchronize(self) -> None:
        """Nothing is asynchronous here."""

    def release(self) -> None:
        """Tensors go back to the system as they are freed."""

    def bound(self, max_bytes: int | None) -> None:
        """Nothing here is taken before it has been counted."""


Device = CudaDevice | CpuDevice


def open_device(name: str) -> Device:
    """The device of this name: ``cuda``, ``cuda:1``, ``cpu``.

    Raises UsageError for an unknown name, MeasurementError for a device that is not there.
    """
    if name == "cpu":
        return CpuDevice(torch.device("cpu"), AllocatorOptions("cpu", expandable=False, unknown=()))
    match = re.fullmatch(r"cuda(?::(0|[1-9][0-9]{0,2}))?", name)
    if match is None:
        raise UsageError(f"--device {name[:60]} is not known", "cuda, cuda:1 or cpu")
    count = _cuda_count()
    index = int(match.group(1) or 0)
    if index >= count:
        devices = f"torch sees {count} CUDA device{'' if count == 1 else 's'}"
        raise MeasurementError(f"cuda:{index} does not exist: {devices}", "cuda:0 is the first")
    device = torch.device("cuda", index)
    return CudaDevice(device, allocator_options(torch.cuda.get_allocator_backend()))


def _cuda_count() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an old driver is said in the error below
        available = torch.cuda.is_available()
    if not available:
        built = torch.version.cuda or torch.version.hip
        reason = "finds no usable device or driver" if built else "is built without CUDA"
        raise MeasurementError(
            f"no CUDA device: torch {torch.__version__} {reason}",
            "--device cpu measures in the host's memory",
        )
    return torch.cuda.device_count()


def first_line(error: BaseException) -> str:
    """What an error of torch says, without the advice it adds."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def available_bytes() -> int:
    """Host memory that can be taken: of the system, and of the container it runs in."""
    meminfo = _first_numbers(Path("/proc/meminfo"))
    if "MemAvailable:" in meminfo:
        available = meminfo["MemAvailable:"] * 1024
    else:
        available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    with suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        allowed = int((group / "memory.max").read_text())
        available = min(available, allowed - int((group / "memory.current").read_text()))
    return max(0, available)


def _first_numbers(path: Path) -> dict[str, int]:
    """The first number of each line of a /proc file, by the word before it."""
    numbers: dict[str, int] = {}
    with suppress(OSError):
        for line in path.read_text().splitlines():
            words = line.split()
            if len(words) > 1 and words[1].isdigit():
                numbers[words[0]] = int(words[1])
    return numbers


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch could not get the memory it asked for."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
