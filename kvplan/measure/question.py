"""What ``kvplan measure`` is asked: which caches, cut into which tensors, and what else of them.

It imports next to nothing, as the command line names these things before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from kvplan.errors import UsageError
from kvplan.limits import MOST_SIZE, whole
from kvplan.units import KIB, MOST_TOKENS

if TYPE_CHECKING:
    from kvplan.dtypes import BesideDtypes
    from kvplan.gpu import Gpu
    from kvplan.spec import ModelSpec

MEASURED = ("llama3-70b", "deepseek-v3", "llama2-7b", "deepseek-v2")
"""The models that are measured where none is named."""

PAGE_TOKENS = 16  # vLLM 0.33.0's block_size where no backend asks for another


class CacheLayout(StrEnum):
    """How a cache's bytes are cut into tensors."""

    ARITHMETIC = "arithmetic"  # a tensor for each slot and layer
    VLLM = "vllm"  # pages, one tensor a layer: K and V together, MLA as one latent
    WHOLE = "whole"  # one tensor
    SEQUENCES = "sequences"  # a tensor for each sequence, slot and layer
    GROWN = "grown"  # a prompt's cache, then torch.cat for each new token: DynamicCache


_EVERY_LAYOUT = "all"
LAYOUT_NAMES = (*(layout.value for layout in CacheLayout), _EVERY_LAYOUT)
"""What ``--layout`` takes: the cache layouts, and a word for all of them."""

SEARCHABLE = (CacheLayout.ARITHMETIC, CacheLayout.VLLM, CacheLayout.WHOLE)
"""Layouts that are allocated at once, in a few tensors: their limits can be searched for."""


class Kernel(StrEnum):
    """An attention kernel; ``auto`` is the fastest that is right."""

    AUTO = "auto"
    FLASHMLA = "flashmla"
    FLASHINFER = "flashinfer"
    SDPA = "sdpa"
    GLUON = "gluon"
    TRITON = "triton"
    TORCH = "torch"


@dataclass(frozen=True)
class CacheQuestion:
    """The caches of one GPU of ``tensor_parallel`` that are to be allocated."""

    spec: ModelSpec
    context_tokens: int
    sequences: int = 1
    kv_cache_dtype: str = "auto"
    tensor_parallel: int = 1
    page_tokens: int = PAGE_TOKENS
    draft: bool = False
    beside: BesideDtypes | None = None
    """Dtypes of what lies beside keys and values; None as engines keep it."""
    drafter: ModelSpec | None = None
    """A draft model whose caches are allocated too."""
    draft_kv_cache_dtype: str = "auto"
    gpu: Gpu | None = None
    """The card whose kernels decide an engine's pages; None: an H100's."""

    def __post_init__(self) -> None:
        whole("context_tokens", self.context_tokens, MOST_TOKENS)
        whole("sequences", self.sequences)
        whole("tensor_parallel_size", self.tensor_parallel, MOST_SIZE)
        whole("block_size", self.page_tokens, MOST_SIZE)
        if self.drafter is None and self.draft_kv_cache_dtype != "auto":
            raise UsageError("draft_kv_cache_dtype needs draft_model: the model that drafts")

    def at_context(self, context_tokens: int) -> CacheQuestion:
        """The same caches for another context."""
        return replace(self, context_tokens=context_tokens)

    def at_sequences(self, sequences: int) -> CacheQuestion:
        """The same caches for another number of sequences."""
        return replace(self, sequences=sequences)


@dataclass(frozen=True)
class DecodeQuestion:
    """A step to measure: over which caches, by which kernel, on at most so many bytes."""

    caches: CacheQuestion
    kernel: Kernel
    max_bytes: int | None = None
    skip: tuple[Kernel, ...] = ()
    """Kernels that took the process with them when they were tried."""
    no_naive: str | None = None
    """Why MLA is not to be measured in naive form; None where it is."""


@dataclass(frozen=True)
class Request:
    """What is to be measured. The questions differ in their models alone.

    Raises UsageError where limits are to be searched for in layouts that have none.
    """

    device: str
    questions: tuple[CacheQuestion, ...]
    layouts: tuple[CacheLayout, ...] = (CacheLayout.ARITHMETIC,)
    max_bytes: int | None = None
    find_max: bool = False
    reserve_weights: bool = False
    decode: bool = False
    kernel: Kernel = Kernel.AUTO
    ceilings: bool = False

    def __post_init__(self) -> None:
        if self.find_max and not set(self.layouts) & set(SEARCHABLE):
            raise UsageError(
                "--find-max needs a layout that is allocated at once",
                f"one of: {', '.join(SEARCHABLE)}",
            )

    @property
    def steps(self) -> int:
        """Things that are measured one after the other."""
        models = len(self.questions)
        decode = 2 * models - 1 if self.decode else 0  # all but the first once more
        return 1 + models * (len(self.layouts) + self.find_max) + self.needs_ceilings + decode

    @property
    def needs_ceilings(self) -> bool:
        """Whether anything is to be held against what the device can do; a CPU is not a roof."""
        return self.device != "cpu" and (self.decode or self.ceilings)


def default_context_tokens(device: str) -> int:
    """The context where none is given: 128k, and what a host takes in a moment on a CPU."""
    return KIB if device == "cpu" else 128 * KIB


def cache_layouts(names: Iterable[str]) -> tuple[CacheLayout, ...]:
    """The layouts of these ``LAYOUT_NAMES``, each once, in their own order; the first for none.

    Raises UsageError for a name that is not among them.
    """
    wanted = set(names) or {CacheLayout.ARITHMETIC.value}
    unknown = sorted(wanted.difference(LAYOUT_NAMES))
    if unknown:
        names = ", ".join(LAYOUT_NAMES)
        raise UsageError(f"--layout {unknown[0][:60]} is not known", f"one of: {names}")
    return tuple(layout for layout in CacheLayout if {layout.value, _EVERY_LAYOUT} & wanted)


def check_options(
    *,
    device: str,
    layouts: tuple[CacheLayout, ...],
    block_size: int | None,
    find_max: bool,
    reserve_weights: bool,
    decode: bool,
    kernel: Kernel,
    save: str | None,
) -> None:
    """Raises UsageError where an option is given without the one that it is for."""
    if reserve_weights and not find_max:
        raise UsageError("--reserve-weights is for --find-max", "give both")
    if kernel is not Kernel.AUTO and not decode:
        raise UsageError("--kernel is for --decode", "give both")
    if block_size is not None and CacheLayout.VLLM not in layouts:
        raise UsageError("--block-size is for --layout vllm", "give both")
    if save is not None:
        _check_save(save, device)


def _check_save(save: str, device: str) -> None:
    """What can be said of ``--save`` before minutes of measuring."""
    path = Path(save)
    if device == "cpu":
        raise UsageError("--save writes a GPU's entry, and this is a CPU", "--device cuda")
    if path.suffix not in (".yaml", ".yml"):
        raise UsageError(f"--save {save}: --gpu reads files named *.yaml", "--save gpu.yaml")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--save {save}: its folder does not exist")
    try:
        is_other = path.exists() and not path.is_file()
    except OSError as error:
        raise UsageError(f"--save {save}: cannot be written: {error.strerror}") from None
    if is_other:
        raise UsageError(f"--save {save}: is not a file")
