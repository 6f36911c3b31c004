"""Names that the command line takes, apart from all that they stand for."""

from __future__ import annotations

from enum import StrEnum


class CacheLayout(StrEnum):
    """How a cache's bytes are cut into tensors."""

    ARITHMETIC = "arithmetic"  # a tensor for each slot and layer
    VLLM = "vllm"  # pages, one tensor a layer: K and V together, MLA as one latent
    WHOLE = "whole"  # one tensor
    SEQUENCES = "sequences"  # a tensor for each sequence, slot and layer
    GROWN = "grown"  # a prompt's cache, then torch.cat for each new token: DynamicCache


class Kernel(StrEnum):
    """What ``--kernel`` takes."""

    AUTO = "auto"
    FLASHMLA = "flashmla"
    FLASHINFER = "flashinfer"
    SDPA = "sdpa"
    GLUON = "gluon"
    TRITON = "triton"
    TORCH = "torch"
