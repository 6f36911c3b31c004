"""An engine's pages: how many there are, what it prints of them, and what they waste."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kvplan.engines.base import Waste
from kvplan.planner.budget import Budget, Pages, unlike
from kvplan.planner.plan import Plan
from kvplan.report import Field, Table, table
from kvplan.units import KIB, gib, json_number
from kvplan.views.words import engine_in_words

REQUEST_TOKENS = (KIB, 4 * KIB, 16 * KIB, 64 * KIB)
"""Lengths of requests for which it is said how many run at once."""


def per_gpu_pages(plan: Plan) -> dict[str, Any]:
    """Pages of the fullest GPU, and what they take beyond its caches."""
    pages = plan.budget.pages
    if pages is None:
        return {"bytes_per_page": None, "page_tokens": None, "pages": None, "waste": None}
    return {
        "bytes_per_page": pages.page_bytes,
        "page_tokens": pages.pool.page_tokens,
        "pages": plan.page_count,
        "sequence_pages": pages.sequence_pages,
        "least_kv_bytes": plan.least_cache.total_bytes,
        "waste": [
            {"name": line.name, "bytes": line.size_bytes, "reason": line.reason}
            for line in plan.waste
        ],
    }


def bytes_per_token(plan: Plan) -> int | float:
    """Growth of one GPU for one more token of a long sequence, in the engine's pages if any."""
    pages = plan.budget.pages
    if pages is None:
        return json_number(plan.budget.cache.bytes_per_token)
    return json_number(pages.pool.growth(plan.fullest_stage))


def request_records(plan: Plan) -> list[dict[str, int]]:
    """How many requests of these lengths run at once in all pools, as far as pages go."""
    pages, count = plan.budget.pages, plan.page_count
    if pages is None or count is None:
        return []
    lengths = [tokens for tokens in REQUEST_TOKENS if tokens < plan.context_tokens]
    return [
        {
            "tokens": tokens,
            "sequences": _at_once(plan, pages.pool.request_pages(tokens, plan.context_tokens)),
        }
        for tokens in (*lengths, plan.context_tokens)
    ]


def state_sequences(plan: Plan) -> int | None:
    """Sequences that the blocks of recurrent states let start; None without any."""
    pages = plan.budget.pages
    if pages is None or plan.page_count is None or not pages.pool.state_pages:
        return None
    return _at_once(plan, pages.pool.state_pages)


def _at_once(plan: Plan, request_pages: int) -> int:
    """So many requests of all groups: as pages go, and no more than the server runs at once."""
    pages, count = plan.budget.pages, plan.page_count
    if pages is None or count is None or not request_pages:
        return 0
    in_group = max(0, count - pages.pool.reserved_pages) // request_pages
    return min(in_group, most_sequences(plan, pages)) * plan.layout.sequence_groups


def most_sequences(plan: Plan, pages: Pages) -> int:
    """Sequences that a group runs at once: as given, else the engine's default or the load."""
    given = plan.question.max_num_seqs
    default = pages.pool.max_num_seqs(plan.context_tokens)
    return given or max(default, plan.budget.cache.sequences)


def page_warnings(plan: Plan) -> Iterator[str]:
    """What the pages rest on, and a default of the engine with which it would not start."""
    pages, count = plan.budget.pages, plan.page_count
    if pages is not None:
        yield from pages.pool.assumptions
    if pages is None or not pages.pool.state_pages or plan.question.enforce_eager:
        return
    default = pages.pool.max_num_seqs(plan.context_tokens)
    if plan.question.max_num_seqs is None and count and default > count:
        yield (
            f"{engine_in_words(plan)} does not start with its default max_num_seqs of {default:,}: "
            f"a sequence needs a block for its state, and there are {count:,}; give max_num_seqs "
            f"{count}"
        )


def overhead_records(budget: Budget) -> list[dict[str, Any]] | None:
    """What an engine sets aside before its first page, line by line; None where none says so."""
    if not budget.overhead_lines:
        return None
    return [
        {
            "name": line.name,
            "bytes": line.size_bytes,
            "low_bytes": line.low_bytes,
            "high_bytes": line.high_bytes,
            "basis": line.basis,
            "note": line.note,
        }
        for line in budget.overhead_lines
    ]


def capacity_basis(plan: Plan) -> str:
    """What the tokens and the concurrency rest on.

    With a room that is given, the engine's rules (``engine``) or arithmetic (``formula``) alone.
    """
    if not plan.budget.room_is_given:
        return plan.budget.overhead_basis
    return "formula" if plan.budget.pages is None else "engine"


def tokens_range(plan: Plan) -> tuple[int, int] | None:
    """The least and the most tokens that the pools hold, by the overhead's range.

    None where the room is given or measured, and the tokens are the engine's own figure.
    """
    groups, tokens = plan.layout.sequence_groups, plan.context_tokens
    if plan.budget.room_is_given or not plan.budget.overhead_lines or plan.budget.pages is None:
        return None
    low, high = (
        min(_concurrency(budget, room) for budget, room in rooms)
        for rooms in zip(*(_rooms(budget) for budget in unlike(plan.budgets)), strict=True)
    )
    return int(low * groups * tokens), int(high * groups * tokens)


def _rooms(budget: Budget) -> tuple[tuple[Budget, int], tuple[Budget, int]]:
    low_bytes, high_bytes = budget.room_range
    return (budget, low_bytes), (budget, high_bytes)


def _concurrency(budget: Budget, room_bytes: int) -> float:
    pages = budget.pages
    if pages is None or not pages.page_bytes or not pages.sequence_pages:
        return 0.0
    return max(0, room_bytes) // pages.page_bytes / pages.sequence_pages


def room_in_words(plan: Plan) -> str:
    """The caches' room of a GPU with its range; nothing where it is given or no engine says."""
    budget, tokens = plan.budget, tokens_range(plan)
    if tokens is None:
        return ""
    low_bytes, high_bytes = budget.room_range
    least = gib(low_bytes) if low_bytes > 0 else "none"
    return (
        f"about {gib(budget.room_bytes)} on each GPU: {least} to {gib(high_bytes)}, "
        f"{tokens[0]:,} to {tokens[1]:,} tokens"
    )


def prints(plan: Plan) -> str:
    """What the engine prints when it has made its pool; nothing without pages."""
    if plan.budget.pages is None or plan.tokens is None:
        return ""
    concurrency = plan.max_concurrency / plan.layout.sequence_groups
    tokens = plan.printed_tokens
    if tokens is None:
        tokens = int(concurrency * plan.context_tokens)
    return (
        f"GPU KV cache size: {tokens:,} tokens, Maximum concurrency for "
        f"{plan.context_tokens:,} tokens per request: {concurrency:.2f}x"
    )


def blocks_in_words(plan: Plan) -> str:
    """The pool of a GPU in a few words; nothing without pages."""
    pages = plan.budget.pages
    if pages is None or plan.page_count is None:
        return ""
    return (
        f"{plan.page_count:,} of {pages.pool.page_tokens:,} tokens, {pages.page_bytes:,} B each; "
        f"a sequence takes {pages.sequence_pages:,}"
    )


def requests_in_words(plan: Plan) -> str:
    """How many shorter requests run at once; nothing without pages."""
    shorter = request_records(plan)[:-1]
    return ", ".join(f"{row['sequences']:,} of {row['tokens']:,}" for row in shorter)


def waste_table(plan: Plan) -> Iterator[Table]:
    """The caches' own bytes, every line of waste, and their sum."""
    pages: Pages | None = plan.budget.pages
    if pages is None or not plan.waste:
        return
    least = Waste("caches", plan.least_cache.total_bytes, "by arithmetic, not a byte more")
    taken = f"{plan.budget.cache.sequences:,} × {pages.sequence_pages:,}"
    if pages.pool.reserved_pages:
        taken += f" + {pages.pool.reserved_pages}"
    total = Waste("all", plan.budget.kv_bytes, f"{taken} blocks of {pages.page_bytes:,} B")
    lines = [line for line in plan.waste if line.size_bytes]
    yield table(
        f"What caches take of each GPU in {engine_in_words(plan)}", _WASTE, [least, *lines, total]
    )


_WASTE: tuple[Field[Waste], ...] = (
    Field("", lambda line: line.name, "Part", align="left"),
    Field("", lambda line: line.size_bytes, "Bytes"),
    Field("", lambda line: line.size_bytes, "", show=lambda line: gib(line.size_bytes), rank=2),
    Field("", lambda line: line.reason, "Why", align="left", rank=1),
)
