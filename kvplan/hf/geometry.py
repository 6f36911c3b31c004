"""Head geometry by the dialects in which config.json files spell it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from kvplan.hf.config import MAX_TOKENS, Config, Figure


@dataclass(frozen=True)
class Dialect:
    """Keys of the attention geometry, and what a missing one means in the family's class.

    Without ``kv`` there is one KV head for each head. ``kv_absent``: that, or refused, where the
    file has none of those keys; ``head_dim_absent``: hidden size over heads, or refused.
    """

    heads: tuple[str, ...] = ("num_attention_heads",)
    hidden: tuple[str, ...] = ("hidden_size",)
    kv: tuple[str, ...] = ("num_key_value_heads",)
    head_dim: tuple[str, ...] = ("head_dim",)
    kv_absent: Literal["heads", "refuse"] = "refuse"
    head_dim_absent: Literal["divide", "refuse"] = "divide"


DENSE = Dialect()
MULTI_HEAD = Dialect(kv_absent="heads")
UNGROUPED = Dialect(kv=(), head_dim=())
"""Classes without keys of their own for KV heads and head width."""
OWN_HEAD_DIM = Dialect(head_dim_absent="refuse")
DIVIDED = Dialect(head_dim=())
"""Classes that divide whatever the file says: a ``head_dim`` that differs is refused unread."""

WINDOW_KEYS = ("sliding_window", "sliding_window_size")


@dataclass(frozen=True)
class Heads:
    """Attention heads, KV heads and elements a head."""

    count: Figure
    kv: Figure
    width: Figure


def heads(config: Config, dialect: Dialect = DENSE) -> Heads:
    """The head geometry. Raises RefusedError where a figure cannot be known."""
    count = config.count(*dialect.heads)
    return Heads(count, kv_heads(config, dialect, count), head_dim(config, dialect, count))


def kv_heads(config: Config, dialect: Dialect, count: Figure) -> Figure:
    """KV heads, or as many as heads where the class says so."""
    if not dialect.kv:
        return Figure(count, f"one for each of {count.origin}")
    given = config.maybe(*dialect.kv)
    if given is not None:
        return given
    if dialect.kv_absent == "refuse" and not config.defaults.null_kv:
        config.missing(*dialect.kv)
    if not config.mentions(*dialect.kv):
        config.take(dialect.kv[0], int(count))
    return Figure(count, f"no {dialect.kv[0]}: one for each of {count.origin}")


def head_dim(config: Config, dialect: Dialect, count: Figure) -> Figure:
    """Width of a head, never hidden size over heads where the file says otherwise."""
    given = config.maybe(*dialect.head_dim) if dialect.head_dim else None
    if given is not None:
        return given
    if dialect.head_dim_absent == "refuse":
        config.missing(*dialect.head_dim)
    width = quotient(config, config.count(*dialect.hidden), count)
    if dialect.head_dim and not config.mentions(*dialect.head_dim):
        config.take(dialect.head_dim[0], int(width))
    return width


def quotient(config: Config, total: Figure, parts: Figure) -> Figure:
    """A whole quotient of two figures, or a contradiction."""
    if total % parts:
        config.refuse(f"{total.origin} ({total}) is not a multiple of {parts.origin} ({parts})")
    return Figure(total // parts, f"{total.origin} ÷ {parts.origin}")


def window(config: Config, *keys: str) -> Figure | None:
    """The sliding window in tokens, or None where the file sets none."""
    return config.maybe(*(keys or WINDOW_KEYS), most=MAX_TOKENS)


def needed_window(config: Config, *keys: str) -> Figure:
    """The sliding window, which has to be in the file."""
    size = window(config, *keys)
    if size is None:
        config.missing(*(keys or WINDOW_KEYS[:1]))
    return size
