"""Moonshot's Kimi: DeepSeek-V3 in K2, delta attention beside latent attention in Linear and K3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from kvplan.hf.blocks.attention import Gate
from kvplan.hf.blocks.base import Block, Layer, Model, Tensors, norm, vector
from kvplan.hf.blocks.latent import MLA
from kvplan.hf.blocks.mlp import Experts
from kvplan.hf.config import Config
from kvplan.hf.families.base import Family, Wrapper
from kvplan.hf.families.decoder import Style, alternate, ends, mlp, stack
from kvplan.hf.families.deepseek import V3_EXPERTS
from kvplan.hf.families.experts import QWEN, dense_first, experts
from kvplan.hf.families.kimi_vision import kimi_k3, kimi_k25
from kvplan.hf.families.latent import latent_decoder, mla
from kvplan.hf.families.states import kimi_delta
from kvplan.hf.layers import (
    FULL,
    LINEAR,
    MTP,
    agree,
    by_type,
    drafts,
    layer_count,
    layer_types,
)
from kvplan.hf.quantization import Published

_LINEAR = Style(uncounted_if=("tie_word_embeddings",))
_MOE = "block_sparse_moe"
_EXPERTS = replace(
    QWEN,
    shared=("num_shared_experts",),
    shared_root=f"{_MOE}.shared_experts",
    correction="buffer",
    root=_MOE,
)


@dataclass(frozen=True, kw_only=True)
class _Residuals(Block):
    """A norm and one row for each place where Kimi-K3 attends to the residuals of layers before."""

    places: tuple[tuple[str, str], ...] = (
        ("self_attention_res", "attention"),
        ("mlp_res", "other"),
    )
    """Name and part of the model."""

    def weights(self, hidden: int) -> Tensors:
        for name, part in self.places:
            yield from norm(f"{name}_norm", hidden)
            yield from vector(part, f"{name}_proj", 1, hidden)


@dataclass(frozen=True, kw_only=True)
class _NarrowExperts(Block):
    """Kimi-K3's experts see a shorter vector, which one matrix makes and another takes back."""

    moe: Experts
    narrow: int
    normed: bool

    def weights(self, hidden: int) -> Tensors:
        narrow, root = self.narrow, f"{self.moe.root}.routed_expert"
        yield from replace(self.moe, narrow=narrow).weights(hidden)
        yield from vector("other", f"{root}_down_proj", narrow, hidden)
        yield from vector("other", f"{root}_up_proj", hidden, narrow)
        if self.normed:
            yield from norm(f"{root}_norm", narrow)


def _kimi_linear(config: Config) -> Model:
    """Delta attention and MLA without rotation (KimiLinearConfig), and what Kimi-K3 adds."""
    count = layer_count(config)
    latent = replace(mla(config), q_rank=partial(config.maybe, "q_lora_rank"))
    layers = by_type(
        config,
        _types(config, count),
        {FULL: lambda: (latent,), LINEAR: lambda: (kimi_delta(config),)},
    )
    draft = [(latent,)] * drafts(config, MTP)
    plain = stack(config, _LINEAR, layers, beside=_beside, forward=_forward, draft=draft)
    return replace(plain, ends=partial(_ends, config))


def _types(config: Config, layers: int) -> Sequence[str]:
    """``full_attn_layers`` and ``kda_layers``, which count from one, or ``layer_types``."""
    section = config.section("linear_attn_config")
    if section is None:
        return layer_types(config, layers, None)
    full, linear = section.numbers("full_attn_layers"), section.numbers("kda_layers")
    if full is None or linear is None:
        section.missing("full_attn_layers", "kda_layers")
    if sorted(full + linear) != list(range(1, layers + 1)):
        section.refuse(f"full_attn_layers and kda_layers do not name each of {layers} layers once")
    listed = [FULL if index + 1 in set(full) else LINEAR for index in range(layers)]
    types = layer_types(config, layers, listed.__getitem__)
    agree(config, "linear_attn_config", types, listed.__getitem__)
    return types


def _beside(config: Config, block: Block) -> Layer:
    """Kimi-K3: an output gate beside MLA, and residual attention over blocks of layers.

    Its 1,560,860,324,864 B of tensors are met exactly so.
    """
    residuals = _residuals(config)
    if not config.flag("mla_use_output_gate") or not isinstance(block, MLA):
        return residuals
    return (*residuals, Gate(rows=block.heads * block.v_width, name="self_attn.g_proj"))


def _forward(config: Config, style: Style, layers: int) -> Sequence[Block]:
    moe, narrow = experts(config, _EXPERTS, layers), config.maybe("routed_expert_hidden_size")
    block: Block = moe
    if narrow is not None:
        block = _NarrowExperts(moe=moe, narrow=narrow, normed=config.flag("latent_moe_use_norm"))
    return alternate(layers, dense_first(config, layers), block, partial(mlp, config, style))


def _residuals(config: Config, *places: tuple[str, str]) -> Layer:
    if config.maybe("attn_res_block_size") is None:
        return ()
    return (_Residuals(places=places) if places else _Residuals(),)


def _ends(config: Config) -> Layer:
    return (*ends(config, _LINEAR), *_residuals(config, ("model.output_attn_res", "other")))


FAMILIES: dict[str, Family] = {
    "kimi_k2": Family(
        read=latent_decoder(V3_EXPERTS),
        classes=("deepseekv3",),
        published=Published(shape_dtype="int32"),
    ),
    "kimi_linear": Family(read=_kimi_linear),
}

WRAPPERS: dict[str, Wrapper] = {
    "kimi_vl": Wrapper(),
    "kimi_k25": Wrapper(tower=kimi_k25),
    "kimi_k3": Wrapper(tower=kimi_k3),
}
