"""Meituan's LongCat-Flash: two attentions and two MLPs a layer, experts that do nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kvplan.hf.blocks.base import Extra, Layer, Model, Norms, Tensor, Tensors, buffer, vector
from kvplan.hf.blocks.mlp import MLP, Experts
from kvplan.hf.config import Config, Figure
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

    @property
    def choices(self) -> int:
        return self.count + self.zero

    def routed(self, hidden: int) -> Tensors:
        """The routed experts alone: a token may choose more than there are of them."""
        most = min(self.used, self.count)
        return (replace(tensor, used=most) for tensor in super().routed(hidden))

    def _router(self, hidden: int) -> Tensors:
        rows, root = self.choices, f"{self.root}.{self.router}"
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
    return _ZeroExperts(
        expert=MLP(width=config.size("expert_ffn_hidden_size")),
        count=config.size("n_routed_experts"),
        used=config.size("moe_topk"),
        zero=config.size("zero_expert_num", least=0),
        router_bias=config.flag("router_bias"),
    )


def _longcat_flash_ngram(config: Config) -> Model:
    """LongCat-Flash-Lite: the embedding of a token is joined by those of its n-grams.

    vLLM 0.33.0 model_executor/models/longcat_flash_ngram.py; they are looked up, and keep nothing.
    """
    plain = _longcat_flash(config)
    return replace(plain, ends=lambda: (*plain.ends(), *_tables(config)))


def _tables(config: Config) -> Layer:
    """``emb_split_num`` tables for each n-gram from 2 to ``emb_neighbor_num``, and a matrix each.

    Each has an odd number of rows, two more than the one before. A token uses a row of each.
    """
    rows = config.maybe("ngram_vocab_size_ratio")
    if rows is None:
        return ()
    rows = Figure(rows * config.size("vocab_size"), "ngram_vocab_size_ratio × vocab_size")
    tables = config.size("emb_split_num") * (config.size("emb_neighbor_num", least=2) - 1)
    hidden = config.size("hidden_size")
    width, total = hidden // tables, tables * rows + tables**2
    root = "model.ngram_embeddings"
    table = Tensor("embedding", f"{root}.embedders", (1, width), copies=total, used=tables)
    matrix = Tensor("embedding", f"{root}.post_projs", (hidden, width), copies=tables)
    return (Extra(tensors=(table, matrix)),)


# Some of its files name no model type (vLLM 0.33.0 transformers_utils/config.py:182).
FAMILIES: dict[str, Family] = {
    "longcat_flash": Family(read=_longcat_flash, architectures=("LongcatFlashForCausalLM",)),
    "longcat_flash_ngram": Family(
        read=_longcat_flash_ngram, architectures=("LongcatFlashNgramForCausalLM",)
    ),
}
