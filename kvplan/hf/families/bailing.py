"""Ant's Ling and Ring (Bailing), and the hybrid of delta and latent attention after them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from kvplan.hf.blocks.attention import Gate
from kvplan.hf.blocks.base import UNSURE, Layer, Model, Tensors, linear, vector
from kvplan.hf.blocks.recurrent import KimiDelta
from kvplan.hf.config import Config, UncountedError
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import PLAIN, Style, decoder, model, others
from kvplan.hf.families.experts import QWEN, dense_first
from kvplan.hf.families.latent import mla
from kvplan.hf.families.states import kernel
from kvplan.hf.layers import (
    FULL,
    LINEAR,
    MTP,
    by_type,
    drafts,
    layer_count,
    layer_types,
    one_full_in,
)

_EXPERTS = replace(
    QWEN,
    count=("num_experts", "num_local_experts"),
    shared="num_shared_experts",
    correction="buffer",
)
# BailingHybridForCausalLM has a head of its own whatever this flag says.
_HYBRID = Style(uncounted_if=("tie_word_embeddings",))
_PART = "recurrent"


@dataclass(frozen=True, kw_only=True)
class _Delta(KimiDelta):
    """One convolution for q, k and v, decay and output gate a matrix each (BailingHybrid)."""

    def weights(self, hidden: int) -> Tensors:
        root, inner = self.root, self.heads * self.width
        for name in ("q_proj", "k_proj", "v_proj", "forget_gate.f_proj", "g_proj"):
            yield from linear(_PART, f"{root}.{name}", inner, hidden)
        yield from vector(_PART, f"{root}.conv1d", 3 * inner, self.kernel, dtype=UNSURE)
        yield from vector(_PART, f"{root}.forget_gate.A_log", self.heads, dtype="fp32")
        yield from vector(_PART, f"{root}.forget_gate.dt_bias", inner, dtype="fp32")
        yield from linear(_PART, f"{root}.b_proj", self.heads, hidden)
        yield from vector(_PART, f"{root}.o_norm", self.width)
        yield from linear(_PART, f"{root}.o_proj", hidden, inner)


def _bailing_hybrid(config: Config) -> Model:
    """KDA and MLA, the last of every ``layer_group_size`` full (BailingHybridConfig)."""
    count, latent = layer_count(config), replace(mla(config), q_rank=partial(_no_rank, config))
    period = config.maybe("layer_group_size")
    types = layer_types(config, count, one_full_in(period, LINEAR) if period else None)
    delta = _delta(config)
    layers = by_type(config, types, {FULL: lambda: (latent,), LINEAR: lambda: (delta,)})
    gate = Gate(rows=latent.heads, name="self_attn.g_proj")
    config.ignore("kda_safe_gate")

    def rest() -> Sequence[Layer]:
        plain = others(config, _HYBRID, count, _EXPERTS, dense_first)
        return [
            (*layer, gate) if kind == FULL else layer
            for kind, layer in zip(types, plain, strict=True)
        ]

    return model(config, _HYBRID, layers, rest, draft=[(latent,)] * drafts(config, MTP))


def _delta(config: Config) -> _Delta:
    """What transformers saves has the rotary width in ``head_dim`` and this one's elsewhere."""
    saved = config.has("linear_head_dim")
    width, heads, conv = ("linear_head_dim", "linear_num_heads", "linear_conv_kernel_dim")
    if not saved:
        width, heads, conv = ("head_dim", "num_attention_heads", "short_conv_kernel_size")
    config.ignore("linear_conv_kernel_dim", "linear_num_heads", "short_conv_kernel_size")
    return _Delta(heads=config.count(heads), width=config.count(width), kernel=kernel(config, conv))


def _no_rank(config: Config) -> None:
    if config.maybe("q_lora_rank") is not None:
        raise UncountedError("q_lora_rank is set, and BailingHybridAttention has one matrix there")


FAMILIES: dict[str, Family] = {
    "bailing_moe": Family(
        read=decoder(PLAIN, uncounted="no count of 'bailing_moe' yet"),
        classes=("bailingmoe", "bailingmoev2"),
    ),
    "bailing_moe_v2": Family(
        read=decoder(PLAIN, uncounted="no count of 'bailing_moe_v2' yet"),
        classes=("bailingmoev2",),
    ),
    "bailing_hybrid": Family(
        read=_bailing_hybrid, classes=("bailinghybrid", "bailingmoev2_5", "bailingmoev25")
    ),
}
