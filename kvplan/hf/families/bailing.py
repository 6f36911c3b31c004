"""Ant's Ling and Ring (Bailing), and their hybrids: lightning or delta attention, and full."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from kvplan.hf.blocks.attention import Gate
from kvplan.hf.blocks.base import (
    UNSURE,
    Block,
    Layer,
    Model,
    Reader,
    Tensors,
    linear,
    uncounted_layers,
    vector,
)
from kvplan.hf.blocks.latent import MLA
from kvplan.hf.blocks.recurrent import KimiDelta, Lightning
from kvplan.hf.config import Config, UncountedError
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import PLAIN, Style, attention, decoder, model, stack, uncounted
from kvplan.hf.families.experts import NUM_SHARED, dense_first
from kvplan.hf.families.latent import mla
from kvplan.hf.families.states import kernel, state_dtype
from kvplan.hf.geometry import DENSE, head_dim
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
_HYBRID = Style(uncounted_if=("tie_word_embeddings", "pregate_enabled"))
_PART = "recurrent"
_NO_COUNT = "no count of Bailing's lightning attention yet"
_STATE = (
    "lightning states are counted in fp32; vLLM 0.33.0 keeps them in the model's dtype where "
    "mamba_cache_dtype is auto"
)


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
    types, delta = _types(config, count), _delta(config)
    layers = by_type(config, types, {FULL: lambda: (latent,), LINEAR: lambda: (delta,)})
    config.ignore("kda_safe_gate", "num_kv_heads_for_linear_attn")
    draft = [(latent,)] * drafts(config, MTP)
    return stack(config, _HYBRID, layers, NUM_SHARED, dense_first, beside=_full_gate, draft=draft)


def _types(config: Config, layers: int) -> Sequence[str]:
    """``layer_types``, else the last of every ``layer_group_size`` full.

    Layers after the last whole group are full in the models' own code and in vLLM 0.33.0
    (models/bailing_moe_v3.py:131), and not so in transformers 5.24.0.
    """
    period = config.maybe("layer_group_size")
    if period and layers % period and not config.has("layer_types"):
        config.refuse(
            f"{layers} layers are not whole groups of layer_group_size ({period}), and engines "
            "differ on what is left; layer_types would say"
        )
    return layer_types(config, layers, one_full_in(period, LINEAR) if period else None)


def _lightning(full: Callable[[Config], Block]) -> Reader:
    """Lightning attention with as many heads as full attention, and that in the last of a group.

    vLLM 0.33.0 models/bailing_moe_linear.py: heads of ``head_dim``, or hidden size over heads.
    """

    def read(config: Config) -> Model:
        count, heads = layer_count(config), config.count("num_attention_heads")
        config.ignore("num_kv_heads_for_linear_attn", "linear_silu", "use_linear_silu")
        last = full(config)
        state = Lightning(
            heads=heads, width=head_dim(config, DENSE, heads), state_dtype=state_dtype(config)
        )
        kinds = {FULL: lambda: (last,), LINEAR: lambda: (state,)}
        layers = by_type(config, _types(config, count), kinds)
        draft = [(last,)] * drafts(config, MTP)
        plain = model(config, PLAIN, layers, uncounted_layers(_NO_COUNT), draft=draft)
        return replace(plain, assumptions=(_STATE,))

    return read


def _full_gate(_: Config, block: Block) -> Layer:
    """One row a head, beside MLA alone."""
    return (Gate(rows=block.heads, name="self_attn.g_proj"),) if isinstance(block, MLA) else ()


def _delta(config: Config) -> _Delta:
    """What transformers saves has the rotary width in ``head_dim`` and this one's elsewhere."""
    saved = config.has("linear_head_dim")
    width, heads, conv = ("linear_head_dim", "linear_num_heads", "linear_conv_kernel_dim")
    if not saved:
        if not config.has("short_conv_kernel_size"):
            config.missing("short_conv_kernel_size")  # Ring-2.5 has none: its states are others
        width, heads, conv = ("head_dim", "num_attention_heads", "short_conv_kernel_size")
    config.ignore("linear_conv_kernel_dim", "linear_num_heads", "short_conv_kernel_size")
    return _Delta(heads=config.count(heads), width=config.count(width), kernel=kernel(config, conv))


def _no_rank(config: Config) -> None:
    if config.maybe("q_lora_rank") is not None:
        raise UncountedError("q_lora_rank is set, and BailingHybridAttention has one matrix there")


def _dense(model_type: str, *classes: str) -> Family:
    """Caches alone: transformers 5.24.0 has no class for these."""
    return Family(
        read=uncounted(decoder(PLAIN), f"no count of {model_type!r} yet"), classes=classes
    )


FAMILIES: dict[str, Family] = {
    "bailing_moe": _dense("bailing_moe", "bailingmoe", "bailingmoev2"),
    "bailing_moe_v2": _dense("bailing_moe_v2", "bailingmoev2"),
    "bailing_hybrid": Family(
        read=_bailing_hybrid,
        classes=("bailinghybrid",),
        architectures=("BailingMoeV3ForCausalLM",),
        published=Published(mlx_doubts=("kv_b_proj",)),
    ),
    # Ring-2.5 and Ling-2.5 files say bailing_hybrid: the class tells them from Ling-3.0.
    "bailing_moe_v2_5": Family(
        read=_lightning(mla),
        architectures=("BailingMoeV2_5ForCausalLM", "BailingMoeV25ForCausalLM"),
    ),
    "bailing_moe_linear": Family(
        read=_lightning(partial(attention, style=PLAIN)),
        classes=("bailingmoelinear", "bailingmoelinearv2"),
    ),
}
