"""Qwen3.8-Flash-Next: Gated DeltaNet, and attention over pooled index keys in every fourth layer.

Source: transformers 5.24.0 modeling_qwen4_exp.py; caches as in vLLM 0.33.0 models/qwen4_exp.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import isqrt

from kvplan.hf.blocks.base import (
    Block,
    Layer,
    Model,
    Tensor,
    Tensors,
    buffer,
    linear,
    norm,
)
from kvplan.hf.blocks.ends import Embedding, Head, tied
from kvplan.hf.blocks.latent import PooledIndexer
from kvplan.hf.blocks.recurrent import Conv
from kvplan.hf.config import Config, Figure, UncountedError
from kvplan.hf.families.base import Family, Wrapper
from kvplan.hf.families.decoder import ATTENTION_BIAS, Style, attention, feed_forward, model
from kvplan.hf.families.experts import QWEN_SHARED
from kvplan.hf.families.qwen import QWEN3
from kvplan.hf.families.qwen_vision import qwen3_vl
from kvplan.hf.families.states import gated_delta_net
from kvplan.hf.layers import FULL, LINEAR, by_type, drafts, layer_count, layer_types, one_full_in

_STYLE = replace(QWEN3, bias=ATTENTION_BIAS)
_INDEXED, _EMBEDDED = "indexed_attention", "linear_attention with n-gram embeddings"
_TABLE_KEYS = (
    *("ple_embed_dim", "ple_conv_kernel_size", "ngram_size", "heads_per_ngram"),
    *("ngram_vocab_size_base", "make_ngram_vocab_size_divisible_by", "split_ngram_parts"),
)
_MOST_HEADS, _MOST_ROWS = 1_024, 1 << 27  # of n-gram tables that are worth finding primes for


@dataclass(frozen=True, kw_only=True)
class _Mixer(Block):
    """What makes one input of ``streams`` residual streams, and spreads the output over them."""

    streams: int
    rank: int
    root: str
    spreads: bool = True

    def weights(self, hidden: int) -> Tensors:
        wide, root = self.streams * hidden, self.root
        yield from norm(f"{root}.hc_norm", wide)
        yield from linear("other", f"{root}.input_mix_weight_down", self.rank, wide)
        yield from linear("other", f"{root}.input_mix_weight_up", wide, self.rank)
        if self.spreads:
            yield from linear("other", f"{root}.block_inject_weight", self.streams, wide)


@dataclass(frozen=True, kw_only=True)
class _Embeddings(Block):
    """Embeddings of hashed n-grams, gated into every stream (Qwen4ExpTextPLELayer).

    ``rows`` are those of all the heads' tables together, ``width`` what all heads give. A token
    uses one row of each head.
    """

    rows: int
    heads: int
    width: int
    streams: int
    ngram: int

    def weights(self, hidden: int) -> Tensors:
        root, wide = "ple", self.streams * hidden
        table = f"{root}.ple_embedding"
        row, name = (1, self.width // self.heads), f"{table}.ngram_embedding"
        yield Tensor("embedding", name, row, copies=self.rows, used=self.heads)
        yield from buffer("other", f"{table}.layer_multipliers", self.ngram, dtype="int64")
        for name in ("ngram_heads_vocab_sizes", "ngram_heads_offsets"):
            yield from buffer("other", f"{table}.{name}", self.heads, dtype="int64")
        yield from linear("other", f"{root}.key_proj", wide, self.width)
        yield from linear("other", f"{root}.value_proj", hidden, self.width)
        for name in ("norm_key", "norm_query", "norm_conv"):
            yield from norm(f"{root}.{name}", wide)


def _qwen4_exp(config: Config) -> Model:
    """``full_attention`` in ``layer_types`` is attention with an indexer (Qwen4ExpTextConfig)."""
    count = layer_count(config)
    config.require("use_sliding_window", False)
    config.require("attn_output_gate", True)
    config.ignore("output_gate_type", *_TABLE_KEYS)
    plain = replace(attention(config, _STYLE), gated=True)
    period = config.maybe("full_attention_interval") or 4
    types = list(layer_types(config, count, one_full_in(period, LINEAR)))
    embedded = sorted(set(config.numbers("ple_layer_ids") or ()))
    for index in embedded:
        if not 1 <= index <= count or types[index - 1] != LINEAR:
            config.refuse(f"ple_layer_ids names {index}, which is no linear layer from 1 on")
        types[index - 1] = _EMBEDDED
    indexed = partial(_indexed, config, plain)
    kinds: dict[str, Callable[[], Layer]] = {
        LINEAR: lambda: (gated_delta_net(config),),
        _EMBEDDED: lambda: (gated_delta_net(config), _conv(config)),
        FULL: indexed,
        _INDEXED: indexed,
    }
    layers = by_type(config, types, kinds)
    draft = [indexed()] * drafts(config, "mtp_num_hidden_layers")
    rest = partial(_others, config, count, embedded)
    return replace(
        model(config, _STYLE, layers, rest, draft=draft), ends=partial(_ends, config, _STYLE)
    )


def _indexed(config: Config, heads: Block) -> Layer:
    config.require("indexer_kv_heads", 1)
    config.ignore("indexer_budget", "indexer_n_heads")
    indexer = PooledIndexer(
        width=config.count("indexer_head_dim"),
        heads=partial(config.size, "indexer_n_heads"),
        pool=config.count("indexer_compress_ratio"),
        axes=_axes(config),
    )
    return (heads, indexer)


def _axes(config: Config) -> int:
    """Rotary axes whose positions are kept: vLLM's uses_mrope asks for ``mrope_section``."""
    for key in ("rope_parameters", "rope_scaling"):
        section = config.section(key)
        if section is not None and section.has("mrope_section"):
            return 3
    return 0


def _conv(config: Config) -> Conv:
    """A convolution over all streams that takes every ``ngram_size``-th token, on every GPU."""
    streams, hidden = config.count("hc_count"), config.count("hidden_size")
    kernel = config.count("ple_conv_kernel_size", least=2, most=64)
    apart = config.count("ngram_size", most=64)
    reach = (kernel - 1) * apart + 1
    return Conv(
        channels=Figure(streams * hidden, f"{streams.origin} × {hidden.origin}"),
        kernel=kernel,
        name="ple.conv1d",
        whole=True,
        reach=Figure(reach, f"({kernel.origin} − 1) × {apart.origin} + 1"),
    )


def _others(config: Config, layers: int, embedded: Sequence[int]) -> Sequence[Layer]:
    streams, rank = config.size("hc_count"), config.size("hc_lowrank")
    names = ("attn_hyper_connection", "mlp_hyper_connection")
    mixers = tuple(_Mixer(streams=streams, rank=rank, root=name) for name in names)
    tables = {layer: _embeddings(config, place) for place, layer in enumerate(embedded)}
    blocks = feed_forward(config, _STYLE, layers, QWEN_SHARED)
    return [
        (block, *mixers, *((tables[i + 1],) if i + 1 in tables else ()))
        for i, block in enumerate(blocks)
    ]


def _embeddings(config: Config, place: int) -> _Embeddings:
    """Each head of each table has a prime number of rows, the next one after the last head's."""
    ngram, heads = config.size("ngram_size", least=2), config.size("heads_per_ngram")
    base = config.maybe("ngram_vocab_size_base", most=_MOST_ROWS)
    count = (ngram - 1) * heads
    width = config.maybe("ple_embed_dim") or config.size("hidden_size")
    if base is None or (place + 1) * count > _MOST_HEADS or width % count:
        raise UncountedError("the tables of n-gram embeddings")
    rows = sum(_primes(base, (place + 1) * count)[place * count :])
    divisor = config.size("make_ngram_vocab_size_divisible_by")
    return _Embeddings(
        rows=-(-rows // divisor) * divisor,
        heads=count,
        width=width,
        streams=config.size("hc_count"),
        ngram=ngram,
    )


def _primes(least: int, count: int) -> list[int]:
    """The first ``count`` primes from ``least`` on."""
    found: list[int] = []
    number = max(2, least)
    while len(found) < count:
        if number == 2 or (number % 2 and all(number % d for d in range(3, isqrt(number) + 1, 2))):  # noqa: PLR2004
            found.append(number)
        number += 1
    return found


def _ends(config: Config, style: Style) -> Layer:
    """A mixer stands in place of the last norm."""
    rows = config.size(*style.vocab)
    mixer = _Mixer(
        streams=config.size("hc_count"),
        rank=config.size("hc_lowrank"),
        root="model.hyper_connection_mixer",
        spreads=False,
    )
    return (Embedding(rows=rows), mixer, Head(rows=rows, tied=tied(config, default=False)))


_TEXT = Family(
    read=_qwen4_exp,
    classes=("qwen4exp",),
)

FAMILIES: dict[str, Family] = {"qwen4_exp_text": _TEXT}

WRAPPERS: dict[str, Wrapper] = {
    "qwen4_exp": Wrapper(text="qwen4_exp_text", tower=qwen3_vl),
}
