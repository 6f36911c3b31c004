"""Ant's Ling and Ring (Bailing), and the hybrid of delta and latent attention after them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from kvplan.hf.blocks.attention import Gate
from kvplan.hf.blocks.base import UNSURE, Block, Layer, Model, Tensors, linear, vector
from kvplan.hf.blocks.latent import MLA
from kvplan.hf.blocks.recurrent import KimiDelta
from kvplan.hf.config import Config, UncountedError
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import PLAIN, Style, decoder, stack, uncounted
from kvplan.hf.families.experts import NUM_SHARED, dense_first
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
from kvplan.hf.quantization import Published

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
    config.ignore("kda_safe_gate")
    draft = [(latent,)] * drafts(config, MTP)
    return stack(config, _HYBRID, layers, NUM_SHARED, dense_first, beside=_full_gate, draft=draft)


def _full_gate(_: Config, block: Block) -> Layer:
    """One row a head, beside MLA alone."""
    return (Gate(rows=block.heads, name="self_attn.g_proj"),) if isinstance(block, MLA) else ()


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


def _dense(model_type: str, *classes: str) -> Family:
    """Caches alone: transformers 5.23.0 has no class for these."""
    return Family(
        read=uncounted(decoder(PLAIN), f"no count of {model_type!r} yet"), classes=classes
    )


FAMILIES: dict[str, Family] = {
    "bailing_moe": _dense("bailing_moe", "bailingmoe", "bailingmoev2"),
    "bailing_moe_v2": _dense("bailing_moe_v2", "bailingmoev2"),
    "bailing_hybrid": Family(
        read=_bailing_hybrid,
        classes=("bailinghybrid", "bailingmoev2_5", "bailingmoev25"),
        published=Published(mlx_doubts=("kv_b_proj",)),
    ),
}
