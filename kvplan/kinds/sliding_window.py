"""Sliding-window and chunked local attention: keys and values of recent tokens only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from kvplan.kinds.base import BoundedKind, CacheKind
from kvplan.kinds.full_attention import AttentionHeads, full_attention
from kvplan.limits import Tokens


class LocalAttention(AttentionHeads, BoundedKind):
    """Attention that never looks further back than ``fixed_entries()`` tokens."""

    def bounded_by(self, context_tokens: int | None) -> CacheKind:
        # A window no shorter than the context never slides: Phi-3-mini-128k, 262,144 over 131,072.
        if context_tokens is None or self.fixed_entries() < context_tokens:
            return self
        return full_attention(
            self.num_attention_heads, self.num_key_value_heads, self.head_dim, self.value_dim
        )


@dataclass(frozen=True, kw_only=True)
class SlidingWindow(LocalAttention):
    """Each token attends to the last ``sliding_window`` tokens, itself included."""

    label: ClassVar[str] = "SWA"
    about: ClassVar[str] = (
        "Only the last sliding_window tokens are kept; engines add what their pages need."
    )

    kind: Literal["sliding_window"] = "sliding_window"
    sliding_window: Tokens

    def fixed_entries(self) -> int:
        return self.sliding_window


@dataclass(frozen=True, kw_only=True)
class ChunkedLocal(LocalAttention):
    """Each token attends within its own chunk of ``attention_chunk_size`` tokens (Llama 4).

    At a chunk's first token the cache could be emptied; the room for a whole chunk is what a
    sequence needs, so that is what counts.
    """

    label: ClassVar[str] = "chunked"
    about: ClassVar[str] = "Only the current chunk of attention_chunk_size tokens is kept."

    kind: Literal["chunked_local"] = "chunked_local"
    attention_chunk_size: Tokens

    def fixed_entries(self) -> int:
        return self.attention_chunk_size
