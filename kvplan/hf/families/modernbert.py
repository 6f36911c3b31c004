"""ModernBERT's decoders: every third layer is full, the others see half of ``local_attention``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kvplan.hf.blocks.base import Layer, Model, Norms, extra, linear
from kvplan.hf.blocks.ends import Embedding, Head, tied
from kvplan.hf.config import MAX_TOKENS, Config, Figure, UncountedError
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import Style, attention, mlp, model
from kvplan.hf.geometry import UNGROUPED
from kvplan.hf.layers import FULL, SLIDING, by_type, layer_count, layer_types

_STYLE = Style(
    dialect=UNGROUPED,
    bias=("attention_bias", False),
    out="Wo",
    attn_root="attn",
    mlp_bias=("mlp_bias", False),
    mlp_names=("Wi", "Wo"),
    norms=("attn_norm", "mlp_norm"),
    final="model.final_norm",
    ends=("model.embeddings.tok_embeddings", "decoder"),
    tie=True,
)


def _modernbert(config: Config) -> Model:
    """The first layer has no norm before attention (ModernBertDecoderLayer)."""
    heads, count = attention(config, _STYLE), layer_count(config)
    period = config.maybe("global_attn_every_n_layers") or 3
    types = layer_types(config, count, lambda index: SLIDING if index % period else FULL)
    config.ignore("local_attention")

    def local() -> Layer:
        reach = config.count("local_attention", most=MAX_TOKENS)
        if reach % 2:
            config.refuse(f"{reach.origin} is {reach}, an odd number")
        saved = config.maybe("sliding_window", most=MAX_TOKENS)
        if saved not in (None, reach // 2):
            config.refuse(f"sliding_window is {saved}, not {reach.origin} ÷ 2")
        return (heads.sliding(Figure(reach // 2, f"{reach.origin} ÷ 2")),)

    layers = by_type(config, types, {FULL: lambda: (heads,), SLIDING: local})

    def others() -> Sequence[Layer]:
        config.uncounted_if("norm_bias")
        dense = mlp(config, _STYLE)
        later = (dense, Norms(names=_STYLE.norms))
        return [(dense, Norms(names=_STYLE.norms[1:]))] + [later] * (count - 1)

    return replace(model(config, _STYLE, layers, others), ends=lambda: _ends(config))


def _ends(config: Config) -> Layer:
    """A square matrix and a norm stand before the head, whose bias is a key's."""
    rows, hidden = config.size("vocab_size"), config.size("hidden_size")
    if config.flag("classifier_bias"):
        raise UncountedError("classifier_bias is on")
    name, head = _STYLE.ends
    return (
        Embedding(rows=rows, name=name),
        Norms(names=("model.embeddings.norm", _STYLE.final, "lm_head.norm")),
        extra(linear("lm_head", "lm_head.dense", hidden, hidden)),
        Head(
            rows=rows,
            tied=tied(config, default=True),
            bias=config.flag("decoder_bias"),
            name=head,
        ),
    )


FAMILIES: dict[str, Family] = {"modernbert-decoder": Family(read=_modernbert)}
