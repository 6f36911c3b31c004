"""The block pool of a server: its blocks' bytes on each stage, and the blocks of a request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate

from kvplan.calc import PackedCaches
from kvplan.engines.base import Waste
from kvplan.engines.settings import ServerSettings
from kvplan.engines.vllm.blocks import Kernels, block_sizes, is_hybrid
from kvplan.engines.vllm.caches import BlockSizes, layer_pages
from kvplan.engines.vllm.groups import Groups, group_layers
from kvplan.engines.vllm.layers import Load
from kvplan.engines.vllm.versions import Rules, rules_of
from kvplan.engines.vllm.waste import waste
from kvplan.parallel import Layout

NULL_BLOCKS = 1
"""v1/core/block_pool.py:191 keeps one block for ever."""


@dataclass(frozen=True)
class BlockPool:
    """Blocks of one layout. ``load`` gives what a request of a context may need of the server."""

    groups: Groups
    blocks: BlockSizes
    ends: tuple[int, ...]
    """The layers at which the pipeline stages end."""
    stage_page_bytes: tuple[int, ...]
    load: Callable[[int], Load]
    max_num_seqs: Callable[[int], int]
    rules: Rules
    assumptions: tuple[str, ...] = ()

    @property
    def reserved_pages(self) -> int:
        """The null block, which older releases gave to a request when they checked that it fits."""
        return NULL_BLOCKS if self.rules.checks_null_block else 0

    @property
    def page_tokens(self) -> int:
        """cache_config.block_size."""
        return self.blocks.attention_tokens

    def pages(self, context_tokens: int) -> int:
        """Blocks of a request of max_model_len, of all groups (kv_cache_utils.py:1061)."""
        return self.groups.pages(self.load(context_tokens))

    def printed_tokens(self, pages: int) -> int | None:
        """Tokens as releases before 0.20.1 print them: the blocks of each group times its page."""
        if self.rules.prints_concurrency or not self.groups.groups:
            return None
        pages_of = (each for group in self.groups.groups for each in group.kinds)
        # A state that a request keeps for its whole length has a page of max_model_len tokens.
        page_tokens = min((p.block_tokens for p in pages_of if p.block_tokens), default=0)
        shared = self.load(1).context_parallel
        return pages // len(self.groups.groups) * page_tokens * shared

    def request_pages(self, tokens: int, context_tokens: int) -> int:
        """Blocks of a request of so many tokens, where max_model_len is ``context_tokens``."""
        return self.groups.pages(replace(self.load(context_tokens), context_tokens=tokens))

    @property
    def state_pages(self) -> int:
        """Blocks of recurrent states that a request has before its first token."""
        load = self.load(1)
        states = (group for group in self.groups.groups if group.is_state)
        return sum(group.pages(load) for group in states)

    def growth(self, stage: int) -> Fraction:
        """Bytes of the blocks that one more token of a long request takes, of every full group."""
        shared = self.load(1).context_parallel
        per_token = sum((group.growth(shared) for group in self.groups.groups), Fraction(0))
        return per_token * self.stage_page_bytes[stage]

    def waste(self, stage: int, context_tokens: int, sequences: int) -> tuple[Waste, ...]:
        """What blocks take beyond the caches, and why, all but the unfilled ends of blocks."""
        null = Waste(
            "null block",
            self.reserved_pages * self.stage_page_bytes[stage],
            "one block that no request gets",
        )
        load = self.load(context_tokens)
        return (null, *waste(self.groups, self.ends, stage, load, sequences))


def grouped(
    caches: PackedCaches, tensor_parallel: int, settings: ServerSettings, kernels: Kernels
) -> tuple[BlockSizes, Groups]:
    """Block sizes and groups on a tensor-parallel group, whatever its pipeline stages are.

    Raises RefusedError where vLLM cannot make them.
    """
    blocks = block_sizes(caches, tensor_parallel, settings, kernels)
    layers = layer_pages(caches, tensor_parallel, blocks)
    rules = rules_of(settings)
    off = not rules.keeps_chunks and any(pages.kind == "chunked" for _, pages in layers)
    groups = group_layers(
        layers,
        packed=kernels.packed,
        hybrid=is_hybrid(caches, settings) and not off,
        rules=rules,
    )
    return blocks, groups


def stage_ends(caches: PackedCaches, layout: Layout) -> tuple[int, ...]:
    """The layers at which the pipeline stages end."""
    return tuple(accumulate(caches.spec.stage_layers(layout.pipeline, layout.partition)))
