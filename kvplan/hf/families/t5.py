"""Google's T5: an encoder, and a decoder whose layers attend to it as well as to the text.

Positions are relative, so that nothing but ``n_positions``, the longest input of training, says
how many tokens of the encoder are kept. Shapes: transformers 5.24.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kvplan.hf.blocks.attention import Attention
from kvplan.hf.blocks.base import Layer, Model, Norms, Reader, Stack, extra, vector
from kvplan.hf.blocks.ends import Embedding, Head, tied
from kvplan.hf.blocks.mlp import MLP
from kvplan.hf.config import MAX_LAYERS, MAX_TOKENS, Config, UncountedError, shown
from kvplan.hf.families.base import Family
from kvplan.hf.families.decoder import Style, model, uncounted
from kvplan.hf.layers import layer_count

_STYLE = Style(hidden=("d_model",), root="decoder.block")


@dataclass(frozen=True, kw_only=True)
class Variety:
    """``biased`` layers have relative positions of their own: the first, or every one (UMT5)."""

    bias_everywhere: bool = False
    gated: bool = False
    """Where ``feed_forward_proj`` is not in the file."""
    encoder_reach: bool = False
    """The encoder may attend locally, and to sums of blocks (LongT5)."""


def _t5(variety: Variety) -> Reader:
    def read(config: Config) -> Model:
        if not config.flag("is_encoder_decoder", default=True):
            config.refuse("an encoder or a decoder alone is not known for this family")
        encoders = layer_count(config, "num_layers")
        given = config.maybe("num_decoder_layers", most=MAX_LAYERS)
        count = encoders if given is None else given
        if given is None:
            config.take("num_decoder_layers", int(count))
        heads = _heads(config, "layer.0.SelfAttention")
        tokens = config.count("n_positions", most=MAX_TOKENS)
        config.ignore("local_radius", "global_block_size", "encoder_attention_type")
        root = "layer.1.EncDecAttention"
        crossed = replace(heads, kind="cross_attention", span=tokens, root=root)

        def others() -> Sequence[Layer]:
            norms = Norms(names=tuple(f"layer.{i}.layer_norm" for i in range(3)))
            return _layers(config, variety, count, (_mlp(config, variety, 2), norms))

        layers_key = config.name("num_layers" if given is None else "num_decoder_layers")
        return replace(
            model(config, _STYLE, [(heads, crossed)] * count, others, layers_key=layers_key),
            stacks=lambda: (_encoder(config, variety, encoders),),
            ends=lambda: _ends(config),
        )

    return read


def _heads(config: Config, root: str) -> Attention:
    heads = config.count("num_heads")
    return Attention(heads=heads, kv=heads, width=config.count("d_kv"), out="o", root=root)


def _mlp(config: Config, variety: Variety, place: int) -> MLP:
    word = config.word("feed_forward_proj")
    gated = variety.gated if word is None else word.startswith("gated-")
    if word is not None and not gated and "-" in word:
        raise UncountedError(f"feed_forward_proj is {shown(str(word))}")
    names = ("wi_0", "wi_1", "wo") if gated else ("wi", "wo")
    root = f"layer.{place}.DenseReluDense"
    return MLP(width=config.size("d_ff"), gated=gated, names=names, root=root)


def _layers(config: Config, variety: Variety, count: int, layer: Layer) -> list[Layer]:
    """Layers of this kind, the first one (or each) with its table of relative positions."""
    rows = config.size("relative_attention_num_buckets")
    name = "layer.0.SelfAttention.relative_attention_bias"
    table = extra(vector("attention", name, rows, config.size("num_heads")))
    biased = (*layer, table)
    return [biased if variety.bias_everywhere or index == 0 else layer for index in range(count)]


def _encoder(config: Config, variety: Variety, count: int) -> Stack:
    norms = Norms(names=("layer.0.layer_norm", "layer.1.layer_norm"))
    heads = _heads(config, "layer.0.SelfAttention")
    layers = _layers(config, variety, count, (heads, _mlp(config, variety, 1), norms))
    if variety.encoder_reach and config.word("encoder_attention_type") == "transient-global":
        rows = config.size("relative_attention_num_buckets")
        root = "layer.0.TransientGlobalSelfAttention.global"
        table = vector("attention", f"{root}_relative_attention_bias", rows, heads.heads)
        layers = [(*layer, Norms(names=(f"{root}_input_layer_norm",))) for layer in layers]
        layers[0] = (*layers[0], extra(table))
    return Stack(root="encoder.block", layers=tuple(layers))


def _ends(config: Config) -> Layer:
    """Files of T5 1.1 store the head that transformers 5 ties (flan-t5-base: 247,577,856)."""
    rows = config.size("vocab_size")
    return (
        Embedding(rows=rows, name="shared"),
        Norms(names=("encoder.final_layer_norm", "decoder.final_layer_norm")),
        Head(rows=rows, tied=tied(config, default=True)),
    )


_SWITCH = "no count of the experts of 'switch_transformers' yet"

FAMILIES: dict[str, Family] = {
    "t5": Family(read=_t5(Variety())),
    "mt5": Family(read=_t5(Variety(gated=True))),
    "umt5": Family(read=_t5(Variety(gated=True, bias_everywhere=True))),
    "longt5": Family(read=_t5(Variety(encoder_reach=True))),
    "switch_transformers": Family(read=uncounted(_t5(Variety()), _SWITCH)),
}
