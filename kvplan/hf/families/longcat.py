"""Meituan's LongCat-Flash: two attentions and two MLPs a layer, experts that do nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kvplan.hf.blocks.base import Layer, Model, Norms, Tensors, buffer, vector
from kvplan.hf.blocks.mlp import MLP, Experts
from kvplan.hf.config import Config
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import Style, mlp, model
from kvplan.hf.families.latent import mla
from kvplan.hf.layers import MTP, drafts, layer_count

_STYLE = Style(layers=("num_layers",), width=("ffn_hidden_size",))
_HALVES = (0, 1)


@dataclass(frozen=True, kw_only=True)
class _ZeroExperts(Experts):
    """Experts of which ``zero`` have a row of the router and no weights."""

    zero: int
    router: str = "router"

    def _router(self, hidden: int) -> Tensors:
        rows, root = self.count + self.zero, f"{self.root}.{self.router}"
        yield from vector("router", f"{root}.classifier", rows, hidden)
        if self.router_bias:
            yield from vector("router", f"{root}.classifier.bias", rows)
        yield from buffer("router", f"{root}.e_score_correction_bias", rows)


def _longcat_flash(config: Config) -> Model:
    """Sub-layers have an attention, an MLP and norms each; the experts stand beside the second."""
    attentions = tuple(mla(config, f"self_attn.{half}") for half in _HALVES)
    count = layer_count(config, *_STYLE.layers)
    draft = [attentions[:1]] * drafts(config, MTP)

    def others() -> Sequence[Layer]:
        norms = tuple(
            f"{name}.{half}"
            for half in _HALVES
            for name in ("input_layernorm", "post_attention_layernorm")
        )
        mlps = (replace(mlp(config, _STYLE), root=f"mlps.{half}") for half in _HALVES)
        return [(*mlps, _experts(config), Norms(names=norms))] * count

    plain = model(config, _STYLE, [attentions] * count, others, draft=draft)
    return replace(plain, active_varies=True)


def _experts(config: Config) -> Experts:
    real = config.size("n_routed_experts")
    return _ZeroExperts(
        expert=MLP(width=config.size("expert_ffn_hidden_size")),
        count=real,
        used=min(real, config.size("moe_topk")),
        zero=config.size("zero_expert_num", least=0),
        router_bias=config.flag("router_bias"),
    )


# Some of its files name no model type (vLLM 0.33.0 transformers_utils/config.py:182).
FAMILIES: dict[str, Family] = {
    "longcat_flash": Family(read=_longcat_flash, architectures=("LongcatFlashForCausalLM",))
}
