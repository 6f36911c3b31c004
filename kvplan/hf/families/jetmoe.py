"""JetMoE: attention's queries and outputs are experts as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import Block, Layer, Model, Tensor, Tensors, linear, vector
from kvplan.hf.config import Config, Figure
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import Style, model, norms
from kvplan.hf.families.experts import MIXTRAL, experts
from kvplan.hf.layers import layer_count

_STYLE = Style(tie=True)
_EXPERTS = replace(
    MIXTRAL, root="mlp", router="router.layer", names=("input_linear", "output_linear")
)


@dataclass(frozen=True, kw_only=True)
class AttentionExperts(Block):
    """JetMoeMoA: each expert has queries for all KV heads, and ``used`` of them see one token."""

    count: int
    used: int
    inner: int

    def weights(self, hidden: int) -> Tensors:
        root, part = "self_attention.experts", "attention"
        for name, shape in {
            "input_linear": (self.inner, hidden),
            "output_linear": (hidden, self.inner),
        }.items():
            yield Tensor(part, f"{root}.{name}", shape, "linear", copies=self.count, used=self.used)
        yield from vector(part, f"{root}.bias", hidden)
        yield from vector("router", f"{root}.router.layer", self.count, hidden)


@dataclass(frozen=True, kw_only=True)
class KeysAndValues(Attention):
    """The one matrix that JetMoeAttention has of its own."""

    def weights(self, hidden: int) -> Tensors:
        rows = 2 * self.kv * self.width
        yield from linear("attention", "self_attention.kv_proj", rows, hidden)


def _jetmoe(config: Config) -> Model:
    """Heads are KV heads times the experts that a token uses (JetMoeConfig), whatever the file."""
    kv, width = config.count("num_key_value_heads"), config.count("kv_channels", "head_dim")
    used = config.count("num_experts_per_tok")
    given = config.maybe("num_attention_heads")
    heads = Figure(kv * used, f"{kv.origin} × {used.origin}")
    if given is not None and given != heads:
        config.refuse(f"{given.origin} is {given}, not {heads.origin}")
    layer, count = KeysAndValues(heads=heads, kv=kv, width=width), layer_count(config)

    def others() -> Sequence[Layer]:
        moe = experts(config, _EXPERTS, count)
        queries = AttentionExperts(count=moe.count, used=moe.used, inner=kv * width)
        return [(moe, _Bias(), queries, norms(_STYLE))] * count

    return model(config, _STYLE, [(layer,)] * count, others)


@dataclass(frozen=True, kw_only=True)
class _Bias(Block):
    """Added to the sum of the experts (JetMoeMoE)."""

    def weights(self, hidden: int) -> Tensors:
        yield from vector("other", "mlp.bias", hidden)


FAMILIES: dict[str, Family] = {"jetmoe": Family(read=_jetmoe)}
