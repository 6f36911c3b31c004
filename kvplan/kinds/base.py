"""What every kind of cache answers: which tensors one entry holds, and how many entries there are.

Elements and entries only. Bytes, dtypes and GPUs are other rooms' business.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, Literal

Split = Literal["whole", "divide", "replicate"]
"""What tensor parallelism does to a slot's heads: kept whole on every rank, divided (and refused
where they do not divide), or divided until one is left on each rank and then replicated."""


CONV, STATE, LINEAR_STATE = "conv", "state", "linear_state"
"""Formats that an option of the engine decides: a convolution's tail (else the model's dtype), a
recurrent state whose dtype no config names (else fp32), and linear attention's, which has no option
of its own (vLLM 0.33.0 layers/mamba/mamba_utils.py, linear_attention_state_dtype)."""


@dataclass(frozen=True)
class Slot:
    """One tensor of a cache entry: ``heads`` rows of ``width`` elements.

    ``format`` is None where the KV cache's dtype decides, ``CONV``, ``STATE`` or ``LINEAR_STATE``,
    else the name of the format in which engines keep this tensor whatever the KV dtype is.
    """

    role: str
    heads: int
    width: int
    split: Split
    format: str | None = None


class CacheKind:
    """A layer's cache: ``slots()`` for each of ``entries(tokens)`` entries."""

    # Read by pydantic where a user's file is validated.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    label: ClassVar[str]
    """Short name for tables: ``MLA``, ``SWA``."""

    formula: ClassVar[str]
    """Elements of one entry, in the names that config.json uses."""

    about: ClassVar[str]
    """One sentence: what is kept and why."""

    per_encoder_input: ClassVar[bool] = False
    """Whether the cache is for an encoder's input, and so apart from the text's own."""

    is_attention: ClassVar[bool] = True
    """Whether the cache says how the layer looks back, and so belongs in a model's short label."""

    state_formats: ClassVar[tuple[str, ...]] = ("fp32", "bf16", "fp16")
    """Formats in which an engine can keep its recurrent state."""

    kind: str

    def slots(self) -> tuple[Slot, ...]:
        """The tensors that one entry holds."""
        raise NotImplementedError

    def entries(self, tokens: int) -> int:
        """Entries that a sequence of ``tokens`` tokens needs room for."""
        return tokens

    def growth(self) -> Fraction:
        """Entries added for one more token of a long sequence; 0 where the cache is bounded."""
        return Fraction(1)

    def fixed_entries(self) -> int:
        """Entries of a bounded cache at its full size; 0 where the cache grows."""
        return 0

    def bounded_by(self, context_tokens: int | None) -> CacheKind:
        """The same cache where no sequence is longer than this: a window may never slide.

        None where nobody says how long sequences get.
        """
        del context_tokens
        return self

    def tag(self) -> str:
        """Label of this very cache."""
        return self.label

    def query_heads(self) -> int | None:
        """Attention heads that tensor parallelism has to divide, if there are any."""
        return None

    def as_full_attention(self, kv_heads: int | None) -> CacheKind | None:
        """The same layer as full attention with ``kv_heads`` KV heads (None: one for each head).

        Returns None where nothing would be left of this cache (index keys), and the cache itself
        where it is not attention (recurrent state). Raises ValueError where heads do not divide.
        """
        del kv_heads
        return self


class BoundedKind(CacheKind):
    """A cache that reaches its full size and stays there."""

    def entries(self, tokens: int) -> int:
        return min(tokens, self.fixed_entries())

    def growth(self) -> Fraction:
        return Fraction(0)


class StateKind(BoundedKind):
    """A recurrent state: one for each sequence, however long, present from the first token."""

    about: ClassVar[str] = "One state for the whole sequence: it does not grow with context."

    def entries(self, tokens: int) -> int:
        del tokens
        return 1

    def fixed_entries(self) -> int:
        return 1
