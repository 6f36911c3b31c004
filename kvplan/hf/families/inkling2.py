"""Inkling 2: Inkling's caches, residual attention over blocks of layers, and layers in a loop.

Source: transformers 5.24.0 modeling_inkling2.py, modeling_inkling2_loop.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import (
    UNSURE,
    Again,
    Block,
    Layer,
    Model,
    Tensors,
    extra,
    linear,
    norm,
    vector,
)
from kvplan.hf.blocks.ends import Embedding, Head
from kvplan.hf.config import Config
from kvplan.hf.families.base import Family, Wrapper
from kvplan.hf.families.decoder import PLAIN, model
from kvplan.hf.families.experts import Mixture, experts
from kvplan.hf.families.inkling import (
    AROUND,
    FULL,
    KERNEL,
    SLIDING,
    attention_layers,
    types_of,
    window_tokens,
)
from kvplan.hf.layers import layer_count

_EXPERTS = Mixture(
    count=("n_routed_experts",),
    width=("moe_intermediate_size", "intermediate_size"),
    router_dtype=UNSURE,
    correction="buffer",
)


@dataclass(frozen=True, kw_only=True)
class _Beside(Block):
    """What a layer has beside its matrices: scales, a gate, sinks, positions, residual queries.

    A full layer's convolutions are dynamic, its three inputs have a norm and a query each.
    """

    heads: Attention
    kernel: int
    positions: int
    reach: int
    first: bool
    gate_rank: int | None
    """Rank of the gates on messages of the pass before, in a layer that is looped over."""

    def weights(self, hidden: int) -> Tensors:
        heads, part, root = self.heads, "attention", "self_attn"
        inner = heads.heads * heads.width
        yield from vector(part, f"{root}.q_proj.norm.scale", heads.heads, heads.width)
        yield from linear(part, f"{root}.o_proj.gate_proj", inner, hidden)
        yield from linear(part, f"{root}.sink_proj", heads.heads, hidden)
        yield from self._positions(hidden)
        full = heads.span is None
        for name in "kv" if full else "":
            rows = heads.kv * self.kernel
            yield from linear(part, f"{root}.{name}_proj.sconv.weight_proj", rows, hidden)
        inputs = ("q_input", "k_input", "v_input") if full else ("input",)
        for name in (*inputs, "post_attention"):
            yield from norm(f"{name}_layernorm", hidden)
        if not self.first:
            yield from vector("other", "attention_input.query", len(inputs), hidden, dtype="fp32")
        yield from vector("other", "mlp_input.query", hidden, dtype="fp32")
        yield from self._gates(hidden)

    def _positions(self, hidden: int) -> Tensors:
        part, root = "attention", "self_attn.relative_position_bias"
        rows = self.heads.heads * self.positions
        yield from linear(part, f"{root}.linear", rows, hidden)
        yield from vector(part, f"{root}.norm.scale", rows)
        yield from vector(part, f"{root}.proj", self.positions, self.reach)

    def _gates(self, hidden: int) -> Tensors:
        rank = self.gate_rank
        for name in ("q", "k", "v", "mlp") if rank is not None else ():
            root = f"{name}_message_gate"
            yield from linear("other", f"{root}.down_proj", rank or 0, 2 * hidden)
            for gate in ("forget", "message"):
                yield from vector(
                    "other", f"{root}.{gate}_gate_proj", hidden, rank or 0, dtype="fp32"
                )


def _inkling2(config: Config, *, loops: bool = False) -> Model:
    """Of the passes over looped layers, each has caches of its own."""
    count = layer_count(config)
    types = types_of(config, count, _last_of_six)
    plain = attention_layers(config, types, qk_norm="")
    start, end, passes = _loop(config, count) if loops else (0, 0, 1)
    again = [tuple(Again(block) for block in layer * (passes - 1)) for layer in plain]
    layers = [
        (*layer, *more) if start <= index < end else layer
        for index, (layer, more) in enumerate(zip(plain, again, strict=True))
    ]
    rest = partial(_others, config, plain, types, range(start, end))
    shaped = model(config, PLAIN, layers, rest)
    return replace(shaped, ends=partial(_ends, config, end - start))


def _last_of_six(index: int) -> str:
    """Inkling2TextConfig, where a file gives no list."""
    return SLIDING if (index + 1) % 6 else FULL


def _loop(config: Config, layers: int) -> tuple[int, int, int]:
    """First looped layer, the one after the last, and passes (Inkling2LoopTextConfig)."""
    section = config.section("loop_config")
    source, names = config, ("loop_layer_index_start", "loop_layer_index_end", "loop_num_passes")
    if section is not None:
        source, names = section, ("core_start", "core_end", "num_passes")
    start, end = source.count(names[0]), source.count(names[1])
    if not start < end <= layers:
        source.refuse(f"layers {start} to {end} of {layers} cannot be looped over")
    return start, end, source.count(names[2], most=64)


def _others(
    config: Config, layers: Sequence[Layer], types: Sequence[str], looped: range
) -> Sequence[Layer]:
    moe = experts(config, _EXPERTS, len(layers))
    kernel, positions, reach = (
        config.size(*KERNEL, least=2),
        config.size("d_rel"),
        config.size("rel_extent"),
    )
    rank = _gate_rank(config) if looped else None
    rest: list[Layer] = []
    for index, (layer, kind) in enumerate(zip(layers, types, strict=True)):
        heads = layer[0]
        assert isinstance(heads, Attention)  # noqa: S101 - for mypy: attention_layers puts it first
        beside = _Beside(
            heads=heads,
            kernel=kernel,
            positions=positions,
            reach=window_tokens(config) if kind == SLIDING else reach,
            first=index == 0,
            gate_rank=rank if index in looped else None,
        )
        rest.append((moe, beside))
    return rest


def _gate_rank(config: Config) -> int:
    section = config.section("loop_config")
    return config.size("loop_gate_rank") if section is None else section.size("gate_rank")


def _ends(config: Config, looped: int) -> Layer:
    """The head has the rows that are used; the last input and messages have queries."""
    hidden, rows = config.size("hidden_size"), config.size("vocab_size")
    config.ignore("tie_word_embeddings", "shared_expert_sink")
    beside = extra(
        norm("model.embed_tokens.embed_norm", hidden),
        norm("model.norm", hidden),
        vector("other", "model.final_input.query", hidden, dtype="fp32"),
        vector("other", "model.message_input.query", looped, 4, hidden, dtype="fp32")
        if looped
        else (),
    )
    return (Embedding(rows=rows), beside, Head(rows=config.size("unpadded_vocab_size")))


FAMILIES: dict[str, Family] = {
    "inkling2_text": Family(read=_inkling2, classes=("inkling2",)),
    "inkling2_loop_text": Family(read=partial(_inkling2, loops=True), classes=("inkling2loop",)),
}

WRAPPERS: dict[str, Wrapper] = {
    "inkling2": Wrapper(text="inkling2_text", beside=AROUND),
    "inkling2_loop": Wrapper(text="inkling2_loop_text", beside=AROUND),
}
