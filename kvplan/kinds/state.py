"""A state of any recurrent layer that has no kind of its own: so many elements a sequence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from kvplan.kinds.base import Slot, Split, StateKind
from kvplan.limits import Limit, Size


@dataclass(frozen=True, kw_only=True)
class State(StateKind):
    """``elements`` of a sequence in ``state_dtype``, ``model`` being the model's own.

    ``split`` is what tensor parallelism does to it: ``divide`` its ``heads`` (the default where
    they are given), ``replicate`` them once GPUs outnumber them, or keep it ``whole``.
    """

    label: ClassVar[str] = "state"
    formula: ClassVar[str] = "elements"
    state_formats: ClassVar[tuple[str, ...]] = ()  # what the spec says is all that is known of it

    kind: Literal["state"] = "state"
    elements: Annotated[int, Limit(gt=0, le=10**12)]
    heads: Size | None = None
    split: Split | None = None
    state_dtype: Literal["fp32", "bf16", "fp16", "model"] = "fp32"

    def __post_init__(self) -> None:
        if self.heads is None and self.split not in (None, "whole"):
            raise ValueError(f"split: {self.split} needs heads: what is to be divided")
        if self.elements % (self.heads or 1):
            raise ValueError(f"{self.elements} elements are not a multiple of {self.heads} heads")

    def slots(self) -> tuple[Slot, ...]:
        heads = self.heads or 1
        split = self.split or ("whole" if self.heads is None else "divide")
        return (Slot("state", heads, self.elements // heads, split, self.state_dtype),)
