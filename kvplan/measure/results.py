"""What came of a measurement: the card, its caches, their limits and their rates."""

from __future__ import annotations

from dataclasses import dataclass

from kvplan.measure.prediction import Prediction
from kvplan.measure.question import CacheLayout, CacheQuestion
from kvplan.measure.rates import Ceilings, DecodeMeasurement


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


@dataclass(frozen=True)
class CacheMeasurement:
    """One layout's caches on the device, in bytes and seconds; counters are changes.

    ``planned_bytes`` is the plan for ``question``'s context, which is shorter than
    ``asked_tokens`` where no more fits. ``peak_bytes`` is the most that torch took on the way. A
    counter is None where the device has none, ``prediction`` where the allocator's rules do not
    apply. ``left_bytes`` was still counted as allocated when all had been given back.
    """

    question: CacheQuestion
    layout: CacheLayout
    asked_tokens: int
    tensors: int
    planned_bytes: int
    tensor_bytes: int
    allocated_bytes: int | None
    reserved_bytes: int | None
    device_bytes: int | None
    peak_bytes: int | None
    prediction: Prediction | None
    intact: bool
    left_bytes: int
    allocate_seconds: float
    write_seconds: float
    read_seconds: float
    free_seconds: float

    @property
    def is_short(self) -> bool:
        """Whether the device holds no cache of the context that was asked for."""
        return self.question.context_tokens < self.asked_tokens

    @property
    def is_sound(self) -> bool:
        """Whether tensors hold the planned bytes, kept what was written, and were given back."""
        return self.tensor_bytes == self.planned_bytes and self.intact and not self.left_bytes

    @property
    def is_unpredicted(self) -> bool:
        """Whether the bytes are right and the counters show what nobody could predict."""
        return self.is_sound and self.prediction is None and not self.is_proved

    @property
    def is_proved(self) -> bool:
        """Whether tensors hold the planned bytes and every counter shows what was predicted.

        Where nothing was predicted, the counters have to show the plan itself.
        """
        if not self.is_sound or self.allocated_bytes is None:
            return self.is_sound
        planned = self.planned_bytes
        expected = self.prediction or Prediction(planned, planned, planned)
        counters = (self.allocated_bytes, self.reserved_bytes, self.device_bytes, self.peak_bytes)
        return counters == (
            expected.allocated_bytes,
            expected.reserved_bytes,
            expected.reserved_bytes,
            expected.peak_bytes,
        )


@dataclass(frozen=True)
class Maximum:
    """The most that a device held, and what was said of it beforehand.

    ``value`` was allocated, ``refused`` was tried and not had. ``by_rules`` is what the
    allocator's rules say of what was free. Beside the cache of ``value``, which holds
    ``planned_bytes``, ``left_bytes`` were left of what may be taken, or showed as free.
    """

    value: int
    refused: int | None
    by_rules: int
    allocations: int
    planned_bytes: int
    left_bytes: int

    @property
    def exact(self) -> bool:
        """Whether one more was tried and refused."""
        return self.refused == self.value + 1


@dataclass(frozen=True)
class Maxima:
    """What the device holds of one model's caches, in one layout.

    ``weights_bytes`` lay on the device first; where they did not fit, nothing was searched.
    ``plan_context_tokens`` and ``plan_sequences`` are what ``kvplan plan`` says of a GPU with the
    room that was there. None where memory sets no limit.
    """

    question: CacheQuestion
    layout: CacheLayout
    weights_bytes: int
    weights_fit: bool = False
    plan_context_tokens: int | None = None
    plan_sequences: int | None = None
    context: Maximum | None = None
    sequences: Maximum | None = None


@dataclass(frozen=True)
class Measurement:
    """Everything that was measured.

    ``refused`` says what was passed over, ``unfit`` of what not one token fits, ``failed`` what
    went wrong, each with the reason.
    """

    card: Card
    caches: tuple[CacheMeasurement, ...] = ()
    maxima: tuple[Maxima, ...] = ()
    ceilings: Ceilings | None = None
    decode: tuple[DecodeMeasurement, ...] = ()
    same_memory: tuple[DecodeMeasurement, ...] = ()
    """Each further model with as many sequences as the first one's caches have room for."""
    refused: tuple[str, ...] = ()
    unfit: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    seconds: float = 0.0
    """Of the caches' check alone: beyond loading torch and making a context."""
